"""The p^k model of chained attempts: k guesses, each failing with probability p, then success.

With a perfect checker that stops at the first hit, k independent attempts fail together with
probability p^k (arXiv 2506.09026, section 4). Here p is estimated from recorded attempts and p^k
is held against how often the first k attempts of a trace really all failed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Shape letters: P problems, K attempts, R resamples.

NUM_RESAMPLES = 1000


@dataclass(frozen=True, slots=True)
class AttemptCounts:
    """How the attempts of each problem's traces went, up to each trace's first hit.

    Example: ``AttemptCounts(np.array([[8, 6]]), np.array([[2, 1]]))``: of 8 first attempts 2 hit,
    of 6 second attempts 1.
    """

    tried_PK: NDArray[np.float64]
    """Traces that made attempt k with none before it a hit."""
    hit_PK: NDArray[np.float64]
    """Those of them whose attempt k is the first hit."""


@dataclass(frozen=True, slots=True)
class PkPoint:
    """Failure after k attempts. Example: ``PkPoint(2, 0.61, 0.55, 0.67, 0.64)``."""

    k: int
    failure: float
    """Product of the shares of misses at attempts 1 to k (Kaplan and Meier's estimate)."""
    low: float
    high: float
    """95 % interval of the failure, by the bootstrap over problems."""
    model: float
    """p^k."""


@dataclass(frozen=True, slots=True)
class PkFit:
    """Example: ``PkFit(0.82, 0.80, 0.84, (point, ...))``."""

    p: float
    """Chance that an attempt fails: misses among all attempts up to each trace's first hit, the
    maximum-likelihood estimate of a geometric law with traces that give up as censored ones."""
    low: float
    high: float
    """95 % interval of p, by the bootstrap over problems."""
    points: tuple[PkPoint, ...]


def fit_pk(counts: AttemptCounts, ks: Sequence[int], *, seed: int) -> PkFit:
    """The fit, with points at those k that some trace reached without a hit before."""
    num_problems = len(counts.tried_PK)
    rng = np.random.default_rng(seed)
    draws_RP = rng.integers(num_problems, size=(NUM_RESAMPLES, num_problems))
    p_R = np.array([_p(counts, draw) for draw in draws_RP])
    curves_RK = np.array([_failure(counts, draw) for draw in draws_RP])
    every = np.arange(num_problems)
    p, curve_K = _p(counts, every), _failure(counts, every)
    reached = int((counts.tried_PK.sum(axis=0) > 0).sum())
    points = tuple(
        PkPoint(
            k=k,
            failure=float(curve_K[k - 1]),
            low=float(np.quantile(curves_RK[:, k - 1], 0.025)),
            high=float(np.quantile(curves_RK[:, k - 1], 0.975)),
            model=p**k,
        )
        for k in ks
        if k <= reached
    )
    return PkFit(p, float(np.quantile(p_R, 0.025)), float(np.quantile(p_R, 0.975)), points)


def _p(counts: AttemptCounts, chosen: NDArray[np.int64]) -> float:
    tried = counts.tried_PK[chosen].sum()
    return float(1 - counts.hit_PK[chosen].sum() / max(1.0, tried))


def _failure(counts: AttemptCounts, chosen: NDArray[np.int64]) -> NDArray[np.float64]:
    tried_K = counts.tried_PK[chosen].sum(axis=0)
    hit_K = counts.hit_PK[chosen].sum(axis=0)
    return np.cumprod(1 - hit_K / np.maximum(1, tried_K))
