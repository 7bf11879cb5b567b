"""Bootstrap over problems: whole problems are drawn again, so their samples stay together."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

# Shape letters: P problems, K measured quantities, R resamples, Q derived quantities.

NUM_RESAMPLES = 2000


def resampled_means(
    values_PK: NDArray[np.float64], *, seed: int, num_resamples: int = NUM_RESAMPLES
) -> NDArray[np.float64]:
    """Means over problems of each resample, (R, K)."""
    num_problems = len(values_PK)
    rng = np.random.Generator(np.random.Philox(np.random.SeedSequence([seed])))
    share_P = np.full(num_problems, 1 / num_problems)
    counts_RP = rng.multinomial(num_problems, share_P, size=num_resamples)
    return counts_RP @ values_PK / num_problems


def interval(
    values_PK: NDArray[np.float64],
    statistic: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    *,
    seed: int,
    level: float = 0.95,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Percentile interval of ``statistic`` (means (R, K) to (R, Q)): low and high, each (Q,).

    The ends are values of resamples, never between two, so infinite ones are allowed.
    """
    drawn_RQ = statistic(resampled_means(values_PK, seed=seed))
    tail = (1 - level) / 2
    low, high = np.quantile(drawn_RQ, [tail, 1 - tail], axis=0, method="inverted_cdf")
    return low, high
