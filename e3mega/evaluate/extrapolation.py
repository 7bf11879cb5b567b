"""Extrapolation as a number: the area that accuracy gains beyond the training budget.

    E = 1 / log2(B_K / B_tr) * integral over log2 B from B_tr to B_K of (J(B) - J(B_tr))

by trapezoids between the measured budgets B_tr = B_0 < B_1 < ... < B_K. It is the mean gain over
the doublings beyond the training budget, in accuracy: 0 when more tokens do not help, and 0.1 when
accuracy lies 0.1 higher there on average. B_tr need not be among the test budgets: accuracy at it
is read off the same generations.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from e3mega.curriculum.bootstrap import resampled_means
from e3mega.evaluate.outcomes import Outcomes

# Shape letters: P problems, K budgets, R resamples.


@dataclass(frozen=True, slots=True)
class Extrapolation:
    """Area gained beyond a training budget. Example: ``Extrapolation(64, 256, .08, .012)``."""

    from_tokens: int
    """The training budget."""
    to_tokens: int
    """The largest test budget."""
    area: float
    stderr: float
    """Standard deviation of the bootstrap over problems."""


def area_beyond(
    budgets: Sequence[int], accuracy_RK: NDArray[np.float64], training_budget: int
) -> NDArray[np.float64]:
    """E of each row, (R,); the budgets ascend and the training budget is one of them."""
    start = budgets.index(training_budget)
    doublings_K = np.log2(np.asarray(budgets[start:], np.float64) / training_budget)
    gains_RK = accuracy_RK[:, start:] - accuracy_RK[:, start : start + 1]
    return np.trapezoid(gains_RK, doublings_K, axis=1) / doublings_K[-1]


def extrapolation(
    outcomes: Outcomes, budgets: Sequence[int], training_budget: int, *, seed: int
) -> Extrapolation | None:
    """E of truncated generations; None unless a larger budget than the training one was tested."""
    if max(budgets) <= training_budget:
        return None
    read = (training_budget, *(budget for budget in budgets if budget > training_budget))
    solved_PK = np.stack([(outcomes.solved_at_PS <= b).mean(axis=1) for b in read], axis=1)
    area = area_beyond(read, solved_PK.mean(axis=0)[None], training_budget)[0]
    spread_R = area_beyond(read, resampled_means(solved_PK, seed=seed), training_budget)
    stderr = float(spread_R.std(ddof=1))
    return Extrapolation(training_budget, max(budgets), float(area), stderr)
