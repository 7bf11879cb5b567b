"""The coupled rule: the smallest budget at which doubling no longer helps much.

arXiv 2506.09026, Eq. 6.1: the smallest B with J(2B) <= kappa J(B), where J(B) is the accuracy of
the policy that starts the stage, on the stage's own data, at budget B.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from e3mega.curriculum.bootstrap import interval

# Shape letters: P problems, S samples of a problem, K budgets, R resamples, Q candidates.


class BudgetReason(Enum):
    """Why a budget was chosen."""

    DECIDED = "decided"
    """J(2B) <= kappa J(B), and the whole interval of the ratio says so."""
    UNDECIDED = "undecided"
    """The interval of the ratio straddles kappa: the smaller budget is taken."""
    LARGEST = "largest"
    """No candidate qualifies: the largest one is taken."""


@dataclass(frozen=True, slots=True)
class BudgetDecision:
    """The chosen budget and the numbers behind it. Example: ``decide_budget(...)``.

    ``ratios`` and their interval have one value per candidate; a ratio is infinite where J(B) is 0.
    """

    candidates: tuple[int, ...]
    budgets: tuple[int, ...]
    """Every budget measured: the candidates and their doubles, ascending."""
    accuracy: tuple[float, ...]
    """J at each of ``budgets``."""
    ratios: tuple[float, ...]
    """J(2B) / J(B)."""
    ratio_low: tuple[float, ...]
    ratio_high: tuple[float, ...]
    """Ends of the 95 % bootstrap interval over problems."""
    kappa: float
    chosen: int
    reason: BudgetReason
    num_problems: int
    num_samples: int
    """Generations of each problem."""


def choose(accuracy: Mapping[int, float], candidates: Sequence[int], kappa: float) -> int:
    """The rule on given accuracies: the smallest B with J(2B) <= kappa J(B), else the largest.

    A candidate with J(B) = 0 never qualifies: there is nothing yet that doubling could help.
    """
    for budget in sorted(candidates):
        if accuracy[budget] > 0 and accuracy[2 * budget] <= kappa * accuracy[budget]:
            return budget
    return max(candidates)


def measured_budgets(candidates: Sequence[int]) -> tuple[int, ...]:
    """The budgets that the rule reads: the candidates and their doubles, ascending."""
    return tuple(sorted({*candidates, *(2 * budget for budget in candidates)}))


def _ratios(
    means_RK: NDArray[np.float64], below: Sequence[int], above: Sequence[int]
) -> NDArray[np.float64]:
    """J(2B) / J(B), (R, Q); infinite where J(B) is 0."""
    low_RQ, high_RQ = means_RK[:, below], means_RK[:, above]
    infinite = np.full_like(low_RQ, np.inf)
    return np.divide(high_RQ, low_RQ, out=infinite, where=low_RQ > 0)


def decide_budget(
    solved_at_PS: NDArray[np.int64],
    *,
    candidates: Sequence[int],
    kappa: float,
    seed: int,
) -> BudgetDecision:
    """Decide on truncations of the same generations, so that budgets are compared in pairs.

    ``solved_at_PS`` holds the tokens after which each generation earns its reward, and a number
    larger than every budget where it never does; the generations had twice the largest candidate
    of tokens. A candidate qualifies when its ratio is at most kappa, or when the interval of the
    ratio contains kappa (the smaller budget is taken while the data cannot tell); one with
    J(B) = 0 never does.
    """
    ordered = tuple(sorted(candidates))
    budgets = measured_budgets(ordered)
    solved_PK = np.stack([(solved_at_PS <= b).mean(axis=1) for b in budgets], axis=1)
    below = [budgets.index(b) for b in ordered]
    above = [budgets.index(2 * b) for b in ordered]
    accuracy_K = solved_PK.mean(axis=0)
    ratios_Q = _ratios(accuracy_K[None], below, above)[0]
    low_Q, high_Q = interval(solved_PK, lambda means: _ratios(means, below, above), seed=seed)
    chosen, reason = ordered[-1], BudgetReason.LARGEST
    for index, budget in enumerate(ordered):
        if accuracy_K[below[index]] > 0 and min(low_Q[index], ratios_Q[index]) <= kappa:
            is_clear = max(high_Q[index], ratios_Q[index]) <= kappa
            chosen = budget
            reason = BudgetReason.DECIDED if is_clear else BudgetReason.UNDECIDED
            break
    return BudgetDecision(
        candidates=ordered,
        budgets=budgets,
        accuracy=tuple(accuracy_K.tolist()),
        ratios=tuple(ratios_Q.tolist()),
        ratio_low=tuple(low_Q.tolist()),
        ratio_high=tuple(high_Q.tolist()),
        kappa=kappa,
        chosen=chosen,
        reason=reason,
        num_problems=solved_at_PS.shape[0],
        num_samples=solved_at_PS.shape[1],
    )
