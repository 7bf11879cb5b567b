"""The loss of one micro-batch: the policy-gradient surrogate of each token over the normalizer."""

from dataclasses import dataclass
from enum import IntEnum

import torch

from e3mega.objective.options import Correction, LossOptions, Ratio

# Shape letters: T tokens of a bin, each at the position of the logits that predict it.


@dataclass(frozen=True, slots=True)
class LossInputs:
    """What the loss of a bin is computed from besides the model's log-probabilities."""

    mask_T: torch.Tensor
    advantages_T: torch.Tensor
    rollout_logprobs_T: torch.Tensor
    correct_T: torch.Tensor
    old_logprobs_T: torch.Tensor | None
    """The learner's own at the start of the round; None stands for the current ones."""
    normalizer: float
    """Sum of the mask over the whole step, all ranks and micro-batches."""


class Sum(IntEnum):
    """Places in the vector of sums that a micro-batch adds to its step's metrics."""

    LOSS = 0
    """Normalised loss."""
    TOKENS = 1
    """Tokens that train."""
    ENTROPY = 2
    """Entropy at those tokens, nats."""
    CORRECT_TOKENS = 3
    """Those of them in correct traces."""
    CORRECT_ENTROPY = 4
    """Entropy at those."""
    CLIPPED = 5
    """Tokens at which the clip took the gradient away."""


@dataclass(frozen=True, slots=True)
class LossTerms:
    """Loss of a micro-batch and what it adds to the metrics."""

    loss: torch.Tensor
    """Scalar; the sum over all micro-batches and ranks is the step's loss."""
    sums: torch.Tensor
    """One entry per member of ``Sum``, float64, without gradient."""
    ratio_max: torch.Tensor
    """Largest ratio at a token that trains."""


def policy_loss(
    logprobs_T: torch.Tensor, entropy_T: torch.Tensor, inputs: LossInputs, options: LossOptions
) -> LossTerms:
    """The loss of one micro-batch.

    Per token it is -(mask * advantage) times the log-probability (``ratio: none``) or times the
    clipped ratio, times the capped importance weight of a correction, less the entropy bonus;
    summed and divided by the normalizer of the whole step, so that it does not depend on how the
    step is divided among micro-batches and ranks.
    """
    mask_T = inputs.mask_T
    current_T = logprobs_T.detach()
    old_T = current_T if inputs.old_logprobs_T is None else inputs.old_logprobs_T
    ratio_T = torch.exp(logprobs_T - old_T)
    if options.ratio is Ratio.NONE:
        objective_T = inputs.advantages_T * logprobs_T
        is_clipped_T = torch.zeros_like(mask_T)
    else:
        objective_T, is_clipped_T = _clipped(ratio_T, inputs.advantages_T, options)
    if options.correction is Correction.TRUNCATED_TOKEN:
        weight_T = torch.exp(old_T - inputs.rollout_logprobs_T).clamp_max(options.correction_cap)
        objective_T = objective_T * weight_T
    if options.entropy_coefficient > 0.0:
        objective_T = objective_T + options.entropy_coefficient * entropy_T
    loss = -(mask_T * objective_T).sum() / inputs.normalizer
    entropy_T = entropy_T.detach()
    # The mask may weigh some tokens more; the metrics count each token once.
    trains_T = (mask_T > 0).to(mask_T.dtype)
    sums = [
        loss.detach(),
        trains_T.sum(),
        (trains_T * entropy_T).sum(),
        (trains_T * inputs.correct_T).sum(),
        (trains_T * inputs.correct_T * entropy_T).sum(),
        (trains_T * is_clipped_T).sum(),
    ]
    ratio_max = (ratio_T.detach() * trains_T).max()
    return LossTerms(loss, torch.stack(sums).double(), ratio_max)


def _clipped(
    ratio_T: torch.Tensor, advantages_T: torch.Tensor, options: LossOptions
) -> tuple[torch.Tensor, torch.Tensor]:
    """PPO's clipped objective with the dual clip, and where it has no gradient (1 or 0)."""
    plain_T = ratio_T * advantages_T
    clipped_T = ratio_T.clamp(1.0 - options.clip_low, 1.0 + options.clip_high) * advantages_T
    objective_T = torch.minimum(plain_T, clipped_T)
    is_clipped_T = clipped_T.detach() < plain_T.detach()
    if options.dual_clip is not None:
        bound_T = options.dual_clip * advantages_T
        is_bounded_T = (advantages_T < 0) & (objective_T.detach() < bound_T)
        objective_T = torch.where(is_bounded_T, bound_T, objective_T)
        is_clipped_T = is_clipped_T | is_bounded_T
    return objective_T, is_clipped_T.float()
