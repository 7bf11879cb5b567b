"""The unbiased estimate of pass@k, for budgets and evaluations alike."""

import numpy as np
from numpy.typing import NDArray

# Shape letters: P problems.


def pass_at_k(num_correct_P: NDArray[np.int64], num_samples: int, k: int) -> NDArray[np.float64]:
    """Unbiased estimate for each problem: 1 - C(S - c, k) / C(S, k) (Chen et al. 2021, Eq. 1).

    Computed as a product, so that large counts do not overflow: the chance that k samples drawn
    without replacement are all wrong is prod over i < k of (S - c - i) / (S - i).
    """
    assert 1 <= k <= num_samples, f"pass@{k} needs at least {k} samples; there are {num_samples}"
    wrong_P = num_samples - num_correct_P
    all_wrong_P = np.ones(len(num_correct_P))
    for drawn in range(k):
        all_wrong_P *= np.maximum(wrong_P - drawn, 0) / (num_samples - drawn)
    return 1.0 - all_wrong_P
