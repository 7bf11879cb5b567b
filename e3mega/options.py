"""Option types shared by several spec sections: the frozen model, token counts, schedules."""

import re
from typing import Annotated, Literal, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag


class Options(BaseModel):
    """A frozen section of a spec: unknown keys are errors, attribute docstrings are its help."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, defer_build=True)


def parse_token_count(value: object) -> object:
    """``"8k"`` is 8192 tokens; whole numbers pass; any other suffix is left for pydantic to refuse.

    Example: ``parse_token_count("2k") == 2048``.
    """
    if isinstance(value, str) and re.fullmatch(r"[0-9]+k", value):
        return int(value[:-1]) * 1024
    return value


_Kilo = Annotated[str, Field(pattern=r"^[0-9]+k$")]

TokenCount = Annotated[
    int, BeforeValidator(parse_token_count, json_schema_input_type=int | _Kilo), Field(gt=0)
]
"""A number of tokens; ``8k`` means 8192."""

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
"""A share between 0 and 1."""

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
"""A checksum, in hexadecimal; ``e3mega pin`` writes it."""

Positive = Annotated[int, Field(gt=0)]
NonNegative = Annotated[int, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0.0)]
NonNegativeFloat = Annotated[float, Field(ge=0.0)]


class LinearSchedule(Options):
    """A number that moves evenly over the first steps of a stage and then stays."""

    kind: Literal["linear"]
    """Names the schedule."""
    start: NonNegativeFloat
    """At the stage's first step."""
    end: NonNegativeFloat
    """From step number ``steps`` on."""
    steps: Positive
    """Optimizer steps of the stage that it takes."""


class SteppedSchedule(Options):
    """A number that jumps at given steps of a stage."""

    kind: Literal["stepped"]
    """Names the schedule."""
    first: NonNegativeFloat
    """Before the first jump."""
    at_steps: tuple[Positive, ...]
    """Steps of the stage, ascending, from 0, at which it jumps."""
    values: tuple[NonNegativeFloat, ...]
    """What it jumps to, one for each of ``at_steps``."""


def _kind_of_schedule(value: object) -> object:
    """Tells pydantic which form is meant, so that a wrong value is named once."""
    if isinstance(value, LinearSchedule | SteppedSchedule):
        return value.kind
    return cast("dict[str, object]", value).get("kind") if isinstance(value, dict) else "number"


Scheduled = Annotated[
    Annotated[NonNegativeFloat, Tag("number")]
    | Annotated[LinearSchedule, Tag("linear")]
    | Annotated[SteppedSchedule, Tag("stepped")],
    Discriminator(_kind_of_schedule),
]
"""A number, or how it moves over the steps of a stage; over stages, a stage sets it anew."""


def value_at(scheduled: Scheduled, stage_step: int) -> float:
    """The number at a step of the stage, counted from 0.

    Example: half-way through ``{kind: linear, start: 0, end: 1, steps: 10}``, at step 5, 0.5.
    """
    if isinstance(scheduled, LinearSchedule):
        progress = min(1.0, stage_step / scheduled.steps)
        return scheduled.start + (scheduled.end - scheduled.start) * progress
    if isinstance(scheduled, SteppedSchedule):
        num_passed = sum(stage_step >= at for at in scheduled.at_steps)
        return (scheduled.first, *scheduled.values)[num_passed]
    return scheduled
