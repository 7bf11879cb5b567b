"""Countdown in plain text, with the generator and the prompt of the e3 paper's released code."""

from enum import Enum
from typing import Annotated, Literal

from pydantic import Field

from e3mega.options import Fraction, NonNegative, Positive
from e3mega.tasks.text_options import TextOptions


class Template(Enum):
    """How a problem is put to the model."""

    BASE = "base"
    """The paper's prompt for base models, in words."""
    SHORT = "short"
    """The numbers and the target alone, for small models."""


class CountdownTextOptions(TextOptions):
    """What problems are drawn from and how supervised traces for them look."""

    kind: Literal["countdown_text"]
    """Names the task."""
    num_numbers: tuple[Annotated[int, Field(ge=2, le=9)], ...] = (3,)
    """Numbers given in a problem; each count is a slice of its own, named after it."""
    max_number: Positive = 99
    """Given numbers are 0 to this."""
    max_target: Positive = 999
    """Targets are 0 to this."""
    operators: Annotated[str, Field(pattern=r"^[-+*/]+$")] = "+-*/"
    """Operators that problems are made with; any of + - * / may be used to solve them."""
    parentheses_frac: Fraction = 0.5
    """Share of problems made with parentheses around two neighbours."""
    num_training: Positive = 3840
    """Training problems of each slice."""
    num_held_out: NonNegative = 320
    """Held-out problems of each slice."""
    template: Template = Template.BASE
    """How a problem is put to the model."""
    trace_has_verification: bool = True
    """Whether traces try several times and check each; else they state a solution at once."""
    trace_hit_frac: Fraction = 0.5
    """Share of traces with verification that contain a hit; the others give up."""
    max_trace_attempts: Positive = 4
    """Most attempts in a trace with verification."""
