"""When a stage ends."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from e3mega.curriculum.options import (
    Exit,
    PlateauExit,
    RecognitionExit,
    StepsExit,
    TargetExit,
    TokenKind,
    TokensExit,
)


class ExitReason(Enum):
    """Why a stage ended."""

    STEPS = "steps"
    """It took all its optimizer steps."""
    TOKENS = "tokens"
    """It reached its number of tokens."""
    PLATEAU = "plateau"
    """Its signal stopped rising."""
    TARGET = "target"
    """Its signal reached the target."""
    RECOGNITION = "recognition"
    """The model tells hits from misses well enough."""
    CAP = "cap"
    """It reached its cap of steps before its rule was met."""
    DATA = "data"
    """No prompt is left that may come."""


@dataclass(frozen=True, slots=True)
class StagePast:
    """What an exit rule knows of a stage. Example: ``StagePast(step=40, tokens={}, signals=())``.

    ``signals`` are the measurements of a plateau or target rule so far, in order.
    """

    step: int
    """Finished optimizer steps."""
    tokens: dict[TokenKind, int]
    signals: tuple[float, ...]
    is_recognition_enough: bool = False
    """Outcome of the measurement taken at this step; False when none was due."""


def max_steps(rule: Exit) -> int:
    """Most optimizer steps that a stage with this rule can take."""
    return rule.steps if isinstance(rule, StepsExit) else rule.max_steps


def is_measurement_due(rule: Exit, stage_step: int) -> bool:
    """Whether the rule's signal is measured after this many finished steps of the stage.

    Each time ``every_steps`` divides the count, and at the cap; recognition at ``min_steps`` or
    later.
    """
    if isinstance(rule, StepsExit | TokensExit) or stage_step == 0:
        return False
    if isinstance(rule, RecognitionExit) and stage_step < rule.min_steps:
        return False
    return stage_step % rule.every_steps == 0 or stage_step >= rule.max_steps


def is_recognition_enough(hit_frac: float, false_hit_frac: float, options: RecognitionExit) -> bool:
    """Whether enough hits are called hits and few enough misses are; both bounds are included."""
    return hit_frac >= options.min_hit_frac and false_hit_frac <= options.max_false_hit_frac


def is_plateau(signals: Sequence[float], rule: PlateauExit) -> bool:
    """Whether the last ``patience`` measurements did not exceed the best one before them.

    A measurement counts as a rise when it is more than ``min_gain`` above the best so far.
    """
    best, num_flat = float("-inf"), 0
    for value in signals:
        if value > best + rule.min_gain:
            num_flat = 0
        else:
            num_flat += 1
        best = max(best, value)
    return num_flat >= rule.patience


def exit_reason(rule: Exit, past: StagePast) -> ExitReason | None:
    """Why the stage ends after what it has done; None if it goes on."""
    if isinstance(rule, StepsExit):
        return ExitReason.STEPS if past.step >= rule.steps else None
    if _is_met(rule, past):
        return _MET[type(rule)]
    return ExitReason.CAP if past.step >= rule.max_steps else None


_MET = {
    TokensExit: ExitReason.TOKENS,
    PlateauExit: ExitReason.PLATEAU,
    TargetExit: ExitReason.TARGET,
    RecognitionExit: ExitReason.RECOGNITION,
}


def _is_met(rule: Exit, past: StagePast) -> bool:
    match rule:
        case TokensExit():
            return past.tokens.get(rule.of, 0) >= rule.num_tokens
        case PlateauExit():
            return is_plateau(past.signals, rule)
        case TargetExit():
            return bool(past.signals) and past.signals[-1] >= rule.at_least
        case RecognitionExit():
            return past.is_recognition_enough and past.step >= rule.min_steps
        case StepsExit():
            return past.step >= rule.steps
