"""Splits graded problems by pass rate: the paper's thresholds, or as many in each part."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Easy above one rate, hard up to another, medium between.

    The e3 paper's code calls a problem easy above 10/16 and hard at 0. Example:
    ``Thresholds(easy_above=0.625, hard_up_to=0.0)``.
    """

    easy_above: float
    hard_up_to: float


def by_thresholds(pass_rates: Sequence[float], thresholds: Thresholds) -> list[str]:
    """``easy``, ``medium`` or ``hard`` for each pass rate."""

    def name(rate: float) -> str:
        if rate > thresholds.easy_above:
            return "easy"
        return "hard" if rate <= thresholds.hard_up_to else "medium"

    return [name(rate) for rate in pass_rates]


def by_quantiles(pass_rates: Sequence[float], num_parts: int) -> list[str]:
    """``part_1`` (the hardest) to ``part_N`` (the easiest), as even as ties allow.

    Problems of one pass rate are not told apart, so they stay in one part: that of the middle of
    their places in the order by pass rate.
    """
    rates = np.asarray(pass_rates, np.float64)
    lower = np.array([(rates < rate).sum() for rate in np.unique(rates)])
    upper = np.array([(rates <= rate).sum() for rate in np.unique(rates)])
    middles = (lower + upper) / 2 / max(1, len(rates))
    part_of = dict(zip(np.unique(rates).tolist(), middles.tolist(), strict=True))
    return [f"part_{min(num_parts, 1 + int(part_of[rate] * num_parts))}" for rate in rates.tolist()]
