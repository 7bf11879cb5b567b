"""When a stage ends."""

from enum import Enum

from e3mega.curriculum.options import Exit, RecognitionExit


class ExitReason(Enum):
    """Why a stage ended."""

    STEPS = "steps"
    """It took all its optimizer steps."""
    RECOGNITION = "recognition"
    """The model tells hits from misses well enough."""
    CAP = "cap"
    """It reached its cap of steps before the rates were good enough."""


def max_steps(rule: Exit) -> int:
    """Most optimizer steps that a stage with this rule can take."""
    return rule.max_steps if isinstance(rule, RecognitionExit) else rule.steps


def is_measurement_due(rule: Exit, stage_step: int) -> bool:
    """Whether recognition is measured after this many finished steps of the stage.

    At ``min_steps`` or later, each time ``every_steps`` divides the count, and at the cap.
    """
    if not isinstance(rule, RecognitionExit) or stage_step < rule.min_steps:
        return False
    return stage_step % rule.every_steps == 0 or stage_step >= rule.max_steps


def is_recognition_enough(hit_frac: float, false_hit_frac: float, options: RecognitionExit) -> bool:
    """Whether enough hits are called hits and few enough misses are; both bounds are included."""
    return hit_frac >= options.min_hit_frac and false_hit_frac <= options.max_false_hit_frac


def exit_reason(rule: Exit, stage_step: int, *, is_enough: bool) -> ExitReason | None:
    """Why the stage ends after this many finished steps; None if it goes on.

    ``is_enough`` is the outcome of the measurement taken at this step, False when none was due.
    """
    if isinstance(rule, RecognitionExit):
        if is_enough and stage_step >= rule.min_steps:
            return ExitReason.RECOGNITION
        return ExitReason.CAP if stage_step >= rule.max_steps else None
    return ExitReason.STEPS if stage_step >= rule.steps else None
