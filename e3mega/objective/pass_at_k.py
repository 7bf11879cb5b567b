"""The advantages under which the policy gradient is that of pass@k."""

from math import comb, sqrt

import numpy as np
from numpy.typing import NDArray

# Shape letters: G groups (prompts) of a step, S samples of a group.


def pass_at_k_advantages(is_correct_GS: NDArray[np.bool_], k: int) -> NDArray[np.float64]:
    """Closed form of arXiv 2508.10751, Sec. 2.4, for groups of n samples of which c are right.

    With rho = 1 - C(n-c, k) / C(n, k), the share of k-subsets with a right sample, and
    sigma = sqrt(rho (1 - rho)): a right sample has (1 - rho) / sigma, a wrong one
    (1 - rho - C(n-c-1, k-1) / C(n-1, k-1)) / sigma. 0 where sigma is 0: no subset, or every
    subset, has a right sample.
    """
    n = is_correct_GS.shape[1]
    assert k <= n, f"pass@{k} of groups of {n} samples"
    found_GS = np.zeros(is_correct_GS.shape)
    for row, is_correct_S in zip(found_GS, is_correct_GS, strict=True):
        c = int(is_correct_S.sum())
        rho = 1.0 - comb(n - c, k) / comb(n, k)
        sigma = sqrt(rho * (1.0 - rho))
        if sigma > 0.0:
            only_wrong = comb(n - c - 1, k - 1) / comb(n - 1, k - 1)
            row[:] = np.where(is_correct_S, 1.0 - rho, 1.0 - rho - only_wrong) / sigma
    return found_GS
