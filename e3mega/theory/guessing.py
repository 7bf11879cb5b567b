"""The p^k model: k guesses, each wrong with probability p, checked perfectly."""

import numpy as np
from numpy.typing import NDArray


def failure_rate(p: float, k: int) -> float:
    """Probability that k independent guesses all fail, p^k (arXiv 2506.09026, Sec. 2)."""
    return p**k


def simulated_failure_rate(p: float, k: int, *, num_traces: int, seed: int) -> tuple[float, float]:
    """The same by playing: share of traces that ran out of guesses, and its standard error."""
    wrong = np.random.default_rng(seed).random((num_traces, k)) < p
    share = float(wrong.all(axis=1).mean())
    return share, float(np.sqrt(max(share * (1 - share), 1e-12) / num_traces))


def success_by(p: float, num_guesses: NDArray[np.int64]) -> NDArray[np.float64]:
    """Success rate, 1 - p^k, for several k."""
    return 1.0 - np.power(p, num_guesses.astype(np.float64))
