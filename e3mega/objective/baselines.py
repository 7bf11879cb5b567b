"""Computes the advantages of a step's samples from their rewards."""

import numpy as np
from numpy.typing import NDArray

from e3mega.objective.advantage import (
    Advantage,
    BatchWhitened,
    Constant,
    FixedBaseline,
    GroupMean,
    GroupMeanStd,
    LeaveOneOut,
    LengthWeighted,
    MaximumLikelihood,
    PassAtK,
    ShiftedMean,
    VirtualBest,
    WhitenBaseline,
)
from e3mega.objective.pass_at_k import pass_at_k_advantages

# Shape letters: G groups (prompts) of a step, S samples of a group.

Floats = NDArray[np.float64]

STD_EPS = 1e-6
"""Added to a standard deviation or a mean below the line, as the reference codes do."""
_WHITENING_EPS = 1e-8
"""Added to the variance of a whitened batch (verl's ``masked_whiten``)."""

FLAT_IS_ZERO = (GroupMean, GroupMeanStd, LeaveOneOut, LengthWeighted, PassAtK, MaximumLikelihood)
"""Kinds that give a group of equal rewards, so also one of a single sample, exactly 0."""


def advantages(rewards_GS: Floats, num_tokens_GS: NDArray[np.int64], options: Advantage) -> Floats:
    """The advantage of each sample of a step, (G, S); the kinds' docstrings are the formulas."""
    found_GS = _unguarded(rewards_GS, num_tokens_GS, options)
    if not isinstance(options, FLAT_IS_ZERO):
        return found_GS
    is_flat_G1 = (rewards_GS == rewards_GS[:, :1]).all(axis=1, keepdims=True)
    return np.where(is_flat_G1, 0.0, found_GS)


def _unguarded(rewards_GS: Floats, num_tokens_GS: NDArray[np.int64], options: Advantage) -> Floats:
    num_samples = rewards_GS.shape[1]
    mean_G1 = rewards_GS.mean(axis=1, keepdims=True)
    centred_GS = rewards_GS - mean_G1
    match options:
        case Constant():
            return np.ones_like(rewards_GS)
        case FixedBaseline():
            return options.scale * (rewards_GS - options.baseline)
        case GroupMean():
            return centred_GS
        case GroupMeanStd():
            return centred_GS / (_sample_std(rewards_GS) + STD_EPS)
        case LeaveOneOut():
            return centred_GS * (num_samples / max(1, num_samples - 1))
        case LengthWeighted():
            weighted_G1 = (rewards_GS * num_tokens_GS).sum(axis=1, keepdims=True)
            return rewards_GS - weighted_G1 / num_tokens_GS.sum(axis=1, keepdims=True)
        case ShiftedMean():
            return centred_GS - options.shift
        case BatchWhitened():
            has_baseline = options.baseline is WhitenBaseline.GROUP_MEAN
            return _whitened(centred_GS if has_baseline else rewards_GS, num_tokens_GS)
        case VirtualBest():
            best_G1 = np.full_like(mean_G1, options.best)
            extended = np.concatenate([rewards_GS, best_G1], axis=1)
            off_GS = rewards_GS - extended.mean(axis=1, keepdims=True)
            return off_GS / (_sample_std(extended) + STD_EPS)
        case PassAtK():
            return pass_at_k_advantages(rewards_GS > 0, options.k)
        case MaximumLikelihood():
            return centred_GS / (mean_G1 + STD_EPS)


def _sample_std(values_GS: Floats) -> Floats:
    if values_GS.shape[1] == 1:
        return np.zeros_like(values_GS)
    return values_GS.std(axis=1, ddof=1, keepdims=True)


def _whitened(values_GS: Floats, num_tokens_GS: NDArray[np.int64]) -> Floats:
    num_tokens = max(2, int(num_tokens_GS.sum()))
    mean = (values_GS * num_tokens_GS).sum() / num_tokens
    variance = ((values_GS - mean) ** 2 * num_tokens_GS).sum() / (num_tokens - 1)
    return (values_GS - mean) / np.sqrt(variance + _WHITENING_EPS)
