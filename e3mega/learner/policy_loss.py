"""The loss of one micro-batch: policy objective, KL and entropy of its tokens."""

from dataclasses import dataclass
from enum import IntEnum

import torch

from e3mega.learner.logprobs import TokenScores
from e3mega.learner.surrogate import Sequences, surrogate
from e3mega.objective.correction import Correction, MaskedWeights
from e3mega.objective.kl import Estimator
from e3mega.objective.options import LossOptions
from e3mega.objective.ratio import Level

# Shape letters: T tokens of a bin, each at the position of the logits that predict it; R tokens of
# it that train.


@dataclass(frozen=True, slots=True)
class LossInputs:
    """What the loss of a bin is computed from besides the model's log-probabilities."""

    mask_T: torch.Tensor
    advantages_T: torch.Tensor
    rollout_logprobs_T: torch.Tensor
    correct_T: torch.Tensor
    sequence_T: torch.Tensor
    """Number of the token's sequence within the bin."""
    old_logprobs_T: torch.Tensor | None
    """The learner's own at the start of the round; None stands for the current ones."""
    reference_logprobs_T: torch.Tensor | None
    """Those of the KL term's reference policy; None without the term."""
    normalizer: float
    """Denominator of the loss: of the whole step, all ranks and micro-batches."""


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
    """Tokens at which a clip acted."""
    KL = 6
    """The KL term's estimate at tokens that train, before its coefficient."""


class SignSum(IntEnum):
    """The same for the tokens of one sign of the advantage."""

    TOKENS = 0
    """Tokens that train."""
    ADVANTAGE = 1
    """Their advantages."""
    LOSS = 2
    """Their part of the normalised loss, without KL and entropy."""
    CLIPPED = 3
    """Those at which a clip acted."""
    LOGIT_GRADIENT = 4
    """Squared norm of that part's gradient with respect to the logits."""


@dataclass(frozen=True, slots=True)
class LossTerms:
    """Loss of a micro-batch and what it adds to the metrics."""

    loss: torch.Tensor
    """Scalar; the sum over all micro-batches and ranks is the step's loss."""
    sums: torch.Tensor
    """One entry per member of ``Sum``, float64, without gradient."""
    sign_sums: torch.Tensor
    """One row for positive, one for negative advantages; an entry per member of ``SignSum``."""
    ratios_R: torch.Tensor
    """The ratio at each token that trains."""


def policy_loss(
    scores: TokenScores, inputs: LossInputs, options: LossOptions, *, temperature: float
) -> LossTerms:
    """The loss of one micro-batch.

    Per token it is the weight of the mask times (-objective + coefficient KL - coefficient
    entropy), the objective times the importance weight of a correction; summed and divided by the
    normalizer of the whole step, so that it does not depend on how the step is divided among
    micro-batches and ranks.
    """
    mask_T, logprobs_T = inputs.mask_T, scores.logprobs_T
    # The mask may weigh some tokens more; the metrics count each token once.
    trains_T = (mask_T > 0).to(mask_T.dtype)
    sequences = Sequences(inputs.sequence_T, trains_T)
    old_T = logprobs_T.detach() if inputs.old_logprobs_T is None else inputs.old_logprobs_T
    found = surrogate(logprobs_T, old_T, inputs.advantages_T, sequences, options.ratio)
    objective_T = found.objective_T
    if options.correction is not None:
        log_weight_T = old_T - inputs.rollout_logprobs_T
        objective_T = objective_T * _weights(log_weight_T, sequences, options.correction)
    policy_T = -mask_T * objective_T / inputs.normalizer
    loss = policy_T.sum()
    kl_T = torch.zeros_like(mask_T)
    if options.kl is not None:
        assert inputs.reference_logprobs_T is not None, "a KL term has a reference"
        kl_T = _kl(logprobs_T - inputs.reference_logprobs_T, options.kl.estimator)
        loss = loss + options.kl.coefficient * (mask_T * kl_T).sum() / inputs.normalizer
    entropy_T = scores.entropy_T
    if options.entropy is not None:
        bonus = (mask_T * entropy_T).sum() / inputs.normalizer
        loss = loss - options.entropy.coefficient * bonus
    entropy_T, correct_T = entropy_T.detach(), inputs.correct_T
    sums = [
        loss.detach(),
        trains_T.sum(),
        (trains_T * entropy_T).sum(),
        (trains_T * correct_T).sum(),
        (trains_T * correct_T * entropy_T).sum(),
        (trains_T * found.is_clipped_T).sum(),
        (trains_T * kl_T.detach()).sum(),
    ]
    gradient_T = _logit_gradient(policy_T, scores, temperature)
    per_token = [trains_T, trains_T * inputs.advantages_T, policy_T.detach()]
    per_token += [trains_T * found.is_clipped_T, gradient_T]
    is_sign = [inputs.advantages_T > 0, inputs.advantages_T < 0]
    table = torch.stack(per_token).double()
    sign_sums = torch.stack([(table * sign_T).sum(1) for sign_T in is_sign])
    ratios_R = found.ratio_T[trains_T > 0]
    return LossTerms(loss, torch.stack(sums).double(), sign_sums, ratios_R)


def _weights(log_weight_T: torch.Tensor, sequences: Sequences, options: Correction) -> torch.Tensor:
    """Importance weights of the learner's policy over vLLM's, capped or masked."""
    if options.level is Level.SEQUENCE:
        log_weight_T = sequences.total_T(log_weight_T)
    weight_T = log_weight_T.exp()
    if isinstance(options, MaskedWeights):
        is_inside_T = (weight_T >= options.min_weight) & (weight_T <= options.max_weight)
        return torch.where(is_inside_T, weight_T, 0.0)
    return weight_T.clamp_max(options.max_weight)


def _kl(difference_T: torch.Tensor, estimator: Estimator) -> torch.Tensor:
    """The estimate at each token from log pi - log ref."""
    match estimator:
        case Estimator.K1:
            return difference_T
        case Estimator.K2:
            return difference_T**2 / 2
        case Estimator.K3:
            return torch.exp(-difference_T) - 1.0 + difference_T


def _logit_gradient(
    policy_T: torch.Tensor, scores: TokenScores, temperature: float
) -> torch.Tensor:
    """Squared norm of the gradient of the policy's part of the loss at each token's logits.

    It is c (e_y - pi) / temperature, with c the derivative by the token's log-probability, so its
    squared norm is c^2 (1 - 2 pi_y + sum pi^2) / temperature^2. No vocabulary is touched.
    """
    (slope_T,) = torch.autograd.grad(policy_T.sum(), scores.logprobs_T, retain_graph=True)
    distance_T = 1.0 - 2.0 * scores.logprobs_T.detach().exp() + scores.collision_T
    return slope_T**2 * distance_T.clamp_min(0.0) / temperature**2
