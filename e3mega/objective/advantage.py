"""Rewards of groups to the weights of their samples in the policy gradient."""

import numpy as np
from numpy.typing import NDArray

from e3mega.objective.options import Advantage, LossOptions

# Shape letters: G groups (prompts), S samples of a group.

STD_EPS = 1e-6
"""Added to the standard deviation, as GRPO's reference implementations do."""


def group_advantages(rewards_GS: NDArray[np.float64], options: LossOptions) -> NDArray[np.float64]:
    """Advantage times sign weight of each sample, (G, S).

    * ``constant``: 1.
    * ``group_mean``: r - mean of the group (Dr. GRPO, arXiv 2503.20783, Eq. 3).
    * ``group_mean_std``: (r - mean) / (std + 1e-6), std with S - 1 below the line (GRPO, arXiv
      2402.03300, Sec. 4.1.2; ddof and epsilon as in the code e3 was trained with).

    Positive advantages are multiplied by ``positive_weight``, negative ones by
    ``negative_weight``. A group of equal rewards, so also one of a single sample, gets exactly 0
    in the two group rules and stays in the step's denominator.
    """
    if options.advantage is Advantage.CONSTANT:
        return np.full_like(rewards_GS, options.positive_weight)
    advantages_GS = rewards_GS - rewards_GS.mean(axis=1, keepdims=True)
    is_flat_G1 = (rewards_GS == rewards_GS[:, :1]).all(axis=1, keepdims=True)
    if options.advantage is Advantage.GROUP_MEAN_STD and rewards_GS.shape[1] > 1:
        advantages_GS = advantages_GS / (rewards_GS.std(axis=1, ddof=1, keepdims=True) + STD_EPS)
    weights_GS = np.where(advantages_GS > 0, options.positive_weight, options.negative_weight)
    return np.where(is_flat_G1, 0.0, advantages_GS * weights_GS)
