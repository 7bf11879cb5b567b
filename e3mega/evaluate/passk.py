"""pass@k of an evaluation with its bootstrap error."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from e3mega.curriculum.bootstrap import resampled_means
from e3mega.curriculum.passk import pass_at_k

# Shape letters: P problems, S samples of a problem, K values of k.


@dataclass(frozen=True, slots=True)
class PassPoint:
    """pass@k at one k. Example: ``PassPoint(8, 0.71, 0.03)``."""

    k: int
    pass_at_k: float
    stderr: float
    """Standard deviation of the bootstrap over problems."""


def pass_k_curve(
    is_correct_PS: NDArray[np.bool_], ks: Sequence[int], *, seed: int
) -> tuple[PassPoint, ...]:
    """Mean pass@k over problems for each k."""
    num_correct_P = is_correct_PS.sum(axis=1)
    num_samples = is_correct_PS.shape[1]
    values_PK = np.stack([pass_at_k(num_correct_P, num_samples, k) for k in ks], axis=1)
    stderr_K = resampled_means(values_PK, seed=seed).std(axis=0, ddof=1)
    means_K = values_PK.mean(axis=0)
    return tuple(
        PassPoint(k, float(mean), float(stderr))
        for k, mean, stderr in zip(ks, means_K, stderr_K, strict=True)
    )
