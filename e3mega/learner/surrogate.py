"""The policy objective of each token for every kind of ratio, and where it is clipped."""

from dataclasses import dataclass

import torch

from e3mega.objective.ratio import (
    Level,
    NoRatio,
    Ratio,
    SequenceRatio,
    SoftGate,
    TokenRatio,
    TruncatedRatio,
)

# Shape letters: T tokens of a bin, each at the position of the logits that predict it; S sequences
# of a bin.


@dataclass(frozen=True, slots=True)
class Sequences:
    """Which sequence of the bin each token belongs to, and which tokens train."""

    index_T: torch.Tensor
    """Number of the sequence, from 0."""
    trains_T: torch.Tensor
    """1 or 0, float."""

    def total_T(self, values_T: torch.Tensor) -> torch.Tensor:
        """At every token the sum over its sequence's tokens that train."""
        totals_S = values_T.new_zeros(int(self.index_T.max()) + 1)
        totals_S = totals_S.index_add(0, self.index_T, values_T * self.trains_T)
        return totals_S[self.index_T]

    def mean_T(self, values_T: torch.Tensor) -> torch.Tensor:
        """At every token the mean over its sequence's tokens that train; 0 where none does."""
        count_T = self.total_T(torch.ones_like(self.trains_T))
        return self.total_T(values_T) / count_T.clamp_min(1.0)


@dataclass(frozen=True, slots=True)
class Surrogate:
    """What is maximised at each token, before weights and reduction."""

    objective_T: torch.Tensor
    is_clipped_T: torch.Tensor
    """1 where a clip took the gradient away or truncated a weight, else 0."""
    ratio_T: torch.Tensor
    """The ratio itself, without gradient; of the sequence where the kind is of sequences."""


def surrogate(
    logprobs_T: torch.Tensor,
    old_T: torch.Tensor,
    advantages_T: torch.Tensor,
    sequences: Sequences,
    options: Ratio,
) -> Surrogate:
    """The policy objective; its formulas are the docstrings of ``objective.ratio``."""
    log_ratio_T = logprobs_T - old_T
    match options:
        case NoRatio():
            ratio_T = log_ratio_T.detach().exp()
            objective_T = advantages_T * logprobs_T
            return Surrogate(objective_T, torch.zeros_like(ratio_T), ratio_T)
        case TokenRatio():
            return _clipped(
                log_ratio_T.exp(),
                advantages_T,
                low=options.clip_low,
                high=options.clip_high,
                dual_clip=options.dual_clip,
            )
        case SequenceRatio():
            return _clipped(
                sequences.mean_T(log_ratio_T).exp(),
                advantages_T,
                low=options.clip_low,
                high=options.clip_high,
                dual_clip=None,
            )
        case TruncatedRatio():
            return _truncated(logprobs_T, log_ratio_T.detach(), advantages_T, sequences, options)
        case SoftGate():
            return _soft_gate(log_ratio_T.exp(), advantages_T, options)


def _clipped(
    ratio_T: torch.Tensor,
    advantages_T: torch.Tensor,
    *,
    low: float,
    high: float,
    dual_clip: float | None,
) -> Surrogate:
    plain_T = ratio_T * advantages_T
    clipped_T = ratio_T.clamp(1.0 - low, 1.0 + high) * advantages_T
    objective_T = torch.minimum(plain_T, clipped_T)
    is_clipped_T = clipped_T.detach() < plain_T.detach()
    if dual_clip is not None:
        bound_T = dual_clip * advantages_T
        is_bounded_T = (advantages_T < 0) & (objective_T.detach() < bound_T)
        objective_T = torch.where(is_bounded_T, bound_T, objective_T)
        is_clipped_T = is_clipped_T | is_bounded_T
    return Surrogate(objective_T, is_clipped_T.to(ratio_T.dtype), ratio_T.detach())


def _truncated(
    logprobs_T: torch.Tensor,
    log_ratio_T: torch.Tensor,
    advantages_T: torch.Tensor,
    sequences: Sequences,
    options: TruncatedRatio,
) -> Surrogate:
    if options.level is Level.SEQUENCE:
        log_ratio_T = sequences.total_T(log_ratio_T)
    ratio_T = log_ratio_T.exp()
    positive, negative = options.positive, options.negative
    weight_T = torch.where(
        advantages_T > 0,
        ratio_T.clamp(positive.min, positive.max),
        ratio_T.clamp(negative.min, negative.max),
    )
    is_cut_T = ((weight_T != ratio_T) & (advantages_T != 0)).to(ratio_T.dtype)
    return Surrogate(weight_T * advantages_T * logprobs_T, is_cut_T, ratio_T)


def _soft_gate(ratio_T: torch.Tensor, advantages_T: torch.Tensor, options: SoftGate) -> Surrogate:
    tau_T = torch.full_like(ratio_T, options.negative_temperature)
    tau_T[advantages_T > 0] = options.positive_temperature
    gate_T = torch.sigmoid(tau_T * (ratio_T - 1.0)) * (4.0 / tau_T)
    return Surrogate(gate_T * advantages_T, torch.zeros_like(ratio_T), ratio_T.detach())
