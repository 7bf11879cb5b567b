"""Accuracy over test budgets, read off the same generations."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from e3mega.evaluate.outcomes import Outcomes

# Shape letters: P problems, S samples of a problem.


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """Accuracy at one budget. Example: ``CurvePoint(64, 0.42, 0.02, 0.1)``."""

    budget_tokens: int
    accuracy: float
    stderr: float
    """Standard error, clustered by problem; NaN for a single problem."""
    truncated_frac: float
    """Share of completions that the budget cuts; they count as wrong."""


def clustered_stderr(means_P: np.ndarray) -> float:
    """Standard error of the mean over problems: std with P - 1 below the line, over sqrt(P).

    With each problem's mean over its samples as the value, samples of one problem may depend on
    each other.
    """
    if len(means_P) < 2:
        return float("nan")
    return float(means_P.std(ddof=1) / np.sqrt(len(means_P)))


def accuracy_curve(outcomes: Outcomes, budgets: Sequence[int]) -> tuple[CurvePoint, ...]:
    """One point per budget; the generations must have had the largest budget of tokens."""
    points: list[CurvePoint] = []
    for budget in budgets:
        means_P = (outcomes.solved_at_PS <= budget).mean(axis=1)
        points.append(
            CurvePoint(
                budget_tokens=budget,
                accuracy=float(means_P.mean()),
                stderr=clustered_stderr(means_P),
                truncated_frac=float((outcomes.ended_at_PS > budget).mean()),
            )
        )
    return tuple(points)
