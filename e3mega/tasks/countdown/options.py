"""Countdown: reach a target from given numbers, each used once."""

from enum import Enum
from typing import Annotated, Literal

from pydantic import Field

from e3mega.options import Fraction, Options, Positive, PositiveFloat, Sha256


class Half(Enum):
    """A slice of the problems by the share of their valid attempts that hit the target."""

    EASY = "easy"
    """The half of the problems with the larger share."""
    HARD = "hard"
    """The half of the problems with the smaller share."""
    ALL = "all"
    """Every problem."""


class CountdownOptions(Options):
    """What Countdown problems are drawn from and how supervised traces for them look."""

    kind: Literal["countdown"]
    """Names the task."""
    num_numbers: Annotated[int, Field(ge=2, le=4)] = 3
    """Numbers given in a problem."""
    max_number: Positive = 9
    """Given numbers are 1 to this."""
    max_value: Positive = 99
    """Targets and intermediate values are 0 to this."""
    operators: Annotated[str, Field(pattern=r"^[-+*/]+$")] = "+-*"
    """Operators that may be used; a division must come out even."""
    half: Half = Half.ALL
    """Which half of the problems by difficulty."""
    problems: str | None = None
    """File of graded problems as ``e3mega grade`` writes it, to train on these alone, under the
    slices it names; null for all."""
    problems_sha256: Sha256 | None = None
    """Checksum that the file of graded problems must have; null accepts any."""
    held_out_frac: Fraction = 0.35
    """Share of all problems kept for evaluation and never trained on."""
    trace_has_verification: bool = True
    """Whether traces try until a verdict says that an attempt hits; else they state a hit at once,
    without a verdict."""
    trace_hit_frac: Fraction = 0.5
    """Share of supervised traces that contain a hit."""
    trace_stop_frac: Annotated[float, Field(gt=0, le=1)] = 0.3
    """Share of the attempts of supervised traces that are their trace's last."""
    max_trace_attempts: Positive = 6
    """Most attempts in one supervised trace."""
    trace_exact_weight: PositiveFloat = 1.0
    """Loss weight of a supervised trace's results and verdicts, which follow from the words before
    them; the other words, most of them free choices, weigh 1."""
