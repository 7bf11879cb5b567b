"""Gradients of a loss without a step: whole, by sign, of the entropy; norms and angles."""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
import torch.distributed as dist
from megatron.core.optimizer import ChainedOptimizer

from e3mega.learner.micro_batch import RoundScores
from e3mega.learner.pipeline import run_bins
from e3mega.learner.policy_loss import LossTerms
from e3mega.learner.step import micro_batch_loss
from e3mega.mcore.build import LearnerModel
from e3mega.objective.options import EntropyOptions, LossOptions
from e3mega.rollout.batch import PackedBatch


@dataclass(frozen=True, slots=True)
class Gradient:
    """This rank's share of a gradient, each parameter on one rank of its group."""

    shares: tuple[tuple[dist.ProcessGroup, tuple[torch.Tensor, ...]], ...]

    def dot(self, other: "Gradient") -> float:
        """Inner product over all ranks; all call it."""
        total = 0.0
        for (group, own), (_, others) in zip(self.shares, other.shares, strict=True):
            device = own[0].device if own else torch.device("cpu")
            part = torch.zeros((), dtype=torch.float64, device=device)
            for one, two in zip(own, others, strict=True):
                part += (one.double() * two.double()).sum()
            dist.all_reduce(part, group=group)
            total += float(part)
        return total

    @property
    def norm(self) -> float:
        """Its length, over all ranks; all call it."""
        return self.dot(self) ** 0.5

    def cosine(self, other: "Gradient") -> float:
        """Cosine of the angle to another; 0 where one of them is 0. All ranks call it."""
        lengths = self.norm * other.norm
        return self.dot(other) / lengths if lengths else 0.0


def gradient_of(
    learner: LearnerModel,
    batch: PackedBatch,
    loss: LossOptions,
    *,
    temperature: float,
    known: RoundScores,
) -> Gradient:
    """The gradient of a step's loss at the current weights; weights and moments stay."""
    for chunk in learner.chunks:
        chunk.zero_grad_buffer()
    learner.optimizer.zero_grad()
    terms: list[LossTerms] = []
    loss_of = partial(micro_batch_loss, loss, temperature, terms)
    run_bins(learner, batch, known, loss_of, temperature=temperature, forward_only=False)
    optimizer = learner.optimizer
    optimizer.prepare_grads()
    parts = optimizer.chained_optimizers if isinstance(optimizer, ChainedOptimizer) else [optimizer]
    return Gradient(
        tuple(
            (
                part.get_grad_stats_parallel_group(),
                tuple(grad.detach().clone() for grad in part.get_grads_for_grad_norm()),
            )
            for part in parts
        )
    )


def gradients_by_sign(
    learner: LearnerModel,
    batch: PackedBatch,
    loss: LossOptions,
    *,
    temperature: float,
    known: RoundScores,
) -> tuple[Gradient, Gradient]:
    """Of the policy's part of the loss: what positive and what negative samples pull."""
    policy = loss.model_copy(update={"kl": None, "entropy": None})
    own = slice(learner.grid.place.dp_rank, None, learner.grid.layout.dp)
    advantages_MT = batch.advantages_NT[own]
    factors_MT = known.advantage_factors_MT
    before_MT = np.ones_like(advantages_MT) if factors_MT is None else factors_MT

    def of_sign(sign: int) -> Gradient:
        only_MT = before_MT * (advantages_MT * sign > 0)
        limited = replace(known, advantage_factors_MT=only_MT)
        return gradient_of(learner, batch, policy, temperature=temperature, known=limited)

    return of_sign(1), of_sign(-1)


def entropy_fall(learner: LearnerModel, batch: PackedBatch, *, temperature: float) -> Gradient:
    """The gradient of minus the mean entropy of the tokens that train."""
    loss = LossOptions(entropy=EntropyOptions(coefficient=1.0))
    trains_NT = (batch.mask_NT > 0).astype(np.float32)
    even = replace(
        batch,
        mask_NT=trains_NT,
        advantages_NT=np.zeros_like(trains_NT),
        normalizer=float(trains_NT.sum()) or 1.0,
    )
    return gradient_of(learner, even, loss, temperature=temperature, known=RoundScores())


def sign_norms(
    learner: LearnerModel,
    batch: PackedBatch,
    loss: LossOptions,
    *,
    temperature: float,
    known: RoundScores,
) -> dict[str, float]:
    """Norms of what each sign pulls in the space of parameters, and the cosine between them."""
    positive, negative = gradients_by_sign(
        learner, batch, loss, temperature=temperature, known=known
    )
    return {
        "grad_norm_positive": positive.norm,
        "grad_norm_negative": negative.norm,
        "sign_cosine": positive.cosine(negative),
    }
