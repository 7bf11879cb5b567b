"""The coupled rule: the smallest budget at which doubling no longer helps much.

arXiv 2506.09026, Eq. 6.1: the smallest B >= B_0 with J(2B) <= kappa J(B), where
J(B) is the accuracy, or pass@k, of the policy that starts the stage, on the stage's own data, at
budget B. Its edge cases:

* no candidate qualifies: the largest is taken;
* J(B) = 0: B does not qualify, since there is nothing yet that doubling could help;
* noise: while the bootstrap interval of J(2B) / J(B) contains kappa the data cannot tell, and the
  smaller budget is taken; the decision says so;
* ties: J(2B) = kappa J(B) qualifies, up to rounding; of several candidates the smallest is taken;
* B_0: candidates below it do not qualify, whatever their J.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from e3mega.curriculum.bootstrap import interval
from e3mega.curriculum.options import CoupledBudget
from e3mega.curriculum.passk import pass_at_k

# Shape letters: P problems, S samples of a problem, K budgets, R resamples, Q candidates.

_ROUNDING = 1e-12
"""Relative; 1.2 times a share of counts may be off by the last bit."""


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
    accuracy_low: tuple[float, ...]
    accuracy_high: tuple[float, ...]
    """Ends of the 95 % bootstrap interval of J over problems."""
    ratios: tuple[float, ...]
    """J(2B) / J(B)."""
    ratio_low: tuple[float, ...]
    ratio_high: tuple[float, ...]
    """Ends of the 95 % bootstrap interval over problems."""
    kappa: float
    floor: float
    """B_0 in tokens; 0 for none."""
    pass_k: int
    chosen: int
    reason: BudgetReason
    num_problems: int
    num_samples: int
    """Generations of each problem."""


def qualifies(low: float, high: float, kappa: float) -> bool:
    """Whether J(B) = ``low`` and J(2B) = ``high`` satisfy the rule."""
    return low > 0 and high <= kappa * low * (1 + _ROUNDING)


def choose(
    accuracy: Mapping[int, float], candidates: Sequence[int], kappa: float, floor: float = 0.0
) -> int:
    """The rule on given accuracies: the smallest B >= B_0 that qualifies, else the largest."""
    for budget in sorted(candidates):
        if budget >= floor and qualifies(accuracy[budget], accuracy[2 * budget], kappa):
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
    solved_at_PS: NDArray[np.int64], rule: CoupledBudget, *, floor: float, seed: int
) -> BudgetDecision:
    """Decide on truncations of the same generations, so that budgets are compared in pairs.

    ``solved_at_PS`` holds the tokens after which each generation earns its reward, and a number
    larger than every budget where it never does; the generations had twice the largest candidate
    of tokens. ``floor`` is B_0. A candidate qualifies when its ratio is at most kappa, or when the
    interval of the ratio contains kappa.
    """
    ordered = tuple(sorted(rule.candidates))
    budgets = measured_budgets(ordered)
    num_samples = solved_at_PS.shape[1]
    num_solved = [(solved_at_PS <= budget).sum(axis=1) for budget in budgets]
    solved_PK = np.stack([pass_at_k(each, num_samples, rule.pass_k) for each in num_solved], axis=1)
    below = [budgets.index(b) for b in ordered]
    above = [budgets.index(2 * b) for b in ordered]
    accuracy_K = solved_PK.mean(axis=0)
    accuracy_low_K, accuracy_high_K = interval(solved_PK, lambda means: means, seed=seed)
    ratios_Q = _ratios(accuracy_K[None], below, above)[0]
    low_Q, high_Q = interval(solved_PK, lambda means: _ratios(means, below, above), seed=seed)
    limit = rule.kappa * (1 + _ROUNDING)
    chosen, reason = ordered[-1], BudgetReason.LARGEST
    for index, budget in enumerate(ordered):
        is_measurable = budget >= floor and accuracy_K[below[index]] > 0
        if is_measurable and min(low_Q[index], ratios_Q[index]) <= limit:
            is_clear = max(high_Q[index], ratios_Q[index]) <= limit
            chosen = budget
            reason = BudgetReason.DECIDED if is_clear else BudgetReason.UNDECIDED
            break
    return BudgetDecision(
        candidates=ordered,
        budgets=budgets,
        accuracy=tuple(accuracy_K.tolist()),
        accuracy_low=tuple(accuracy_low_K.tolist()),
        accuracy_high=tuple(accuracy_high_K.tolist()),
        ratios=tuple(ratios_Q.tolist()),
        ratio_low=tuple(low_Q.tolist()),
        ratio_high=tuple(high_Q.tolist()),
        kappa=rule.kappa,
        floor=floor,
        pass_k=rule.pass_k,
        chosen=chosen,
        reason=reason,
        num_problems=solved_at_PS.shape[0],
        num_samples=solved_at_PS.shape[1],
    )
