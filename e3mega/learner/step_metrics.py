"""The metrics of a step from the terms of its micro-batches, the same on every rank and grid."""

from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from e3mega.learner.policy_loss import LossTerms, SignSum, Sum
from e3mega.mcore.parallel import RankGrid

_SIGNS = ("positive", "negative")
_QUANTILES = {"ratio_p01": 0.01, "ratio_p50": 0.5, "ratio_p99": 0.99}


def loss_metrics(terms: list[LossTerms], grid: RankGrid) -> dict[str, float]:
    """Loss, entropy, ratio and what each sign of the advantage contributes.

    A collective of all ranks; the last stages hold the terms. Shares and means over no token are
    0. Ratios are gathered (four bytes a token), so that their quantiles are exact.
    """
    sums, sign_sums, ratios = _totals(terms, grid)
    tokens, correct = max(sums[Sum.TOKENS], 1.0), sums[Sum.CORRECT_TOKENS]
    incorrect_entropy = sums[Sum.ENTROPY] - sums[Sum.CORRECT_ENTROPY]
    found = {
        "loss": sums[Sum.LOSS],
        "entropy": sums[Sum.ENTROPY] / tokens,
        "entropy_correct": sums[Sum.CORRECT_ENTROPY] / max(correct, 1.0),
        "entropy_incorrect": incorrect_entropy / max(sums[Sum.TOKENS] - correct, 1.0),
        "tokens": sums[Sum.TOKENS],
        "clip_frac": sums[Sum.CLIPPED] / tokens,
        "kl": sums[Sum.KL] / tokens,
        "ratio_max": float(ratios.max(initial=0.0)),
    }
    for name, share in _QUANTILES.items():
        found[name] = float(np.quantile(ratios, share)) if len(ratios) else 0.0
    for sign, own in zip(_SIGNS, sign_sums, strict=True):
        count = max(own[SignSum.TOKENS], 1.0)
        found |= {
            f"tokens_{sign}_frac": own[SignSum.TOKENS] / tokens,
            f"advantage_{sign}": own[SignSum.ADVANTAGE] / count,
            f"loss_{sign}": own[SignSum.LOSS],
            f"clip_{sign}_frac": own[SignSum.CLIPPED] / count,
            f"logit_grad_norm_{sign}": own[SignSum.LOGIT_GRADIENT] ** 0.5,
        }
    return found


def _totals(
    terms: list[LossTerms], grid: RankGrid
) -> tuple[list[float], list[list[float]], np.ndarray[Any, np.dtype[np.float32]]]:
    """Sums over all micro-batches and ranks by ``Sum``, by sign and ``SignSum``; all ratios."""
    num_sums, num_signs, num_sign_sums = len(Sum), len(_SIGNS), len(SignSum)
    own = torch.zeros(num_sums + num_signs * num_sign_sums, dtype=torch.float64)
    own_ratios = np.zeros(0, np.float32)
    if grid.is_last_stage and grid.place.tp_rank == 0:
        own[:num_sums] = torch.stack([term.sums for term in terms]).sum(0).cpu()
        own[num_sums:] = torch.stack([term.sign_sums for term in terms]).sum(0).flatten().cpu()
        own_ratios = torch.cat([term.ratios_R for term in terms]).float().cpu().numpy()
    every: list[Any] = [None] * grid.process.world_size
    dist.all_gather_object(every, (own, own_ratios), group=grid.control)
    total = torch.stack([sums for sums, _ in every]).sum(0)
    sign_sums = total[num_sums:].reshape(num_signs, num_sign_sums).tolist()
    return total[:num_sums].tolist(), sign_sums, np.concatenate([ratios for _, ratios in every])
