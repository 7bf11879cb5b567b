"""Multiplication of two numbers of several digits, in words."""

from typing import Annotated, Literal

from pydantic import Field

from e3mega.options import Fraction, NonNegative, Positive
from e3mega.tasks.countdown.text import Template
from e3mega.tasks.text_options import TextOptions


class MultiplicationOptions(TextOptions):
    """How long the numbers are and how supervised traces look."""

    kind: Literal["multiplication"]
    """Names the task."""
    num_digits: tuple[Annotated[int, Field(ge=1, le=12)], ...] = (5,)
    """Digits of both numbers; each count is a slice of its own, named after it."""
    num_training: Positive = 20000
    """Training problems of each slice."""
    num_held_out: NonNegative = 512
    """Held-out problems of each slice."""
    template: Template = Template.BASE
    """How a problem is put to the model."""
    asks_for_checks: bool = False
    """Whether the prompt in words asks for lines that verify, prefixed with ``Check:``."""
    trace_has_verification: bool = True
    """Whether traces check each attempt in a ``Check:`` line and try again after a wrong one."""
    trace_error_frac: Fraction = 0.4
    """Share of attempts in traces with verification that hold an error, which the check finds."""
    max_trace_attempts: Positive = 4
    """Most attempts in a trace with verification."""
