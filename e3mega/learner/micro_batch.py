"""One bin of a packed batch as the model and the loss take it on this rank."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from e3mega.learner.policy_loss import LossInputs
from e3mega.mcore.attention import PackedSequences, packed_sequences
from e3mega.mcore.build import LearnerModel
from e3mega.rollout.batch import PackedBatch
from e3mega.rollout.packing import PAD_TOKEN_ID
from e3mega.spec.schema.layout import Fp8, LearnerLayout

# Shape letters: N bins of a batch, M bins of this data-parallel rank, T tokens of a bin, A tokens
# of a bin with what alignment adds, P of those the tokens of this context-parallel rank.

Floats = NDArray[np.float32]
Indices = NDArray[np.int64]

_FP8_MULTIPLE = 128
"""Rows of a matrix that 8-bit products take, whatever their scaling."""


@dataclass(frozen=True, slots=True)
class RoundScores:
    """What the loss takes from before the round's first step, for this rank's bins of a batch.

    Example: ``RoundScores(old_logprobs_MT=own_logprobs(learner, batch, temperature=1.0))``.
    """

    old_logprobs_MT: Floats | None = None
    """The ratio's denominator; None stands for the current ones."""
    reference_logprobs_MT: Floats | None = None
    """Of the KL term's reference; None without the term."""
    advantage_factors_MT: Floats | None = None
    """Of the token-selective negatives; None without them."""


NOTHING_KNOWN = RoundScores()
"""Of a step that is a round of its own."""


@dataclass(frozen=True, slots=True)
class BinOrder:
    """The tokens of a bin in the order in which the ranks compute them.

    Example: ``BinOrder(np.arange(5), np.array([0, 1, 2, 0, 1]))``: two sequences, nothing added.
    """

    source_A: Indices
    """Token of the bin; -1 for one that alignment adds."""
    positions_A: Indices
    """Restart at 0 with every sequence."""


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """One bin as the model takes it; loss inputs stand where their token is predicted."""

    tokens_1P: torch.Tensor
    positions_1P: torch.Tensor
    targets_P: torch.Tensor
    source_P: Indices
    """Token of the bin; -1 for one that alignment adds."""
    is_scored_P: NDArray[np.bool_]
    """Whether the token that is predicted here is one that the ranks compute."""
    groups_P: torch.Tensor
    """Number of the target's prompt within the step; -1 where there is none."""
    packed: PackedSequences
    loss: LossInputs


def bin_order(batch: PackedBatch, number: int, layout: LearnerLayout) -> BinOrder:
    """Leaves the padding at the end of the bin out, and adds what the ranks need to share evenly.

    With context parallel every sequence is lengthened to a multiple of 2 cp, so that it can be
    cut into that many parts.
    """
    positions_T = batch.positions_NT[number, : _num_used(batch, number)].astype(np.int64)
    source_T = np.arange(len(positions_T))
    if layout.cp == 1:
        return padded(BinOrder(source_T, positions_T), _token_multiple(layout))
    starts = np.flatnonzero(positions_T == 0)
    sources: list[Indices] = []
    for own in np.split(source_T, starts[1:]):
        extra = -len(own) % (2 * layout.cp)
        sources.append(np.concatenate([own, np.full(extra, -1)]))
    order = BinOrder(
        np.concatenate(sources), np.concatenate([np.arange(len(source)) for source in sources])
    )
    return padded(order, _token_multiple(layout))


def padded(order: BinOrder, multiple: int) -> BinOrder:
    """With one more sequence of added tokens, so that the number of tokens is a multiple."""
    extra = -len(order.source_A) % multiple
    return BinOrder(
        np.concatenate([order.source_A, np.full(extra, -1)]),
        np.concatenate([order.positions_A, np.arange(extra)]),
    )


def context_share(positions_A: Indices, *, cp: int, cp_rank: int) -> Indices:
    """Which tokens of a bin a context-parallel rank computes.

    Every sequence is cut into 2 cp equal parts; rank r takes part r and part 2 cp - 1 - r, so that
    all ranks look at equally many pairs of tokens.
    """
    if cp == 1:
        return np.arange(len(positions_A))
    starts = np.flatnonzero(positions_A == 0)
    shares: list[Indices] = []
    for own in np.split(np.arange(len(positions_A)), starts[1:]):
        parts = np.split(own, 2 * cp)
        shares += [parts[cp_rank], parts[2 * cp - 1 - cp_rank]]
    return np.concatenate(shares)


def micro_batch(
    learner: LearnerModel,
    batch: PackedBatch,
    number: int,
    order: BinOrder,
    known: RoundScores,
    row: int,
) -> MicroBatch:
    """Bin ``number`` of the batch, which is bin ``row`` of this data-parallel rank."""
    grid = learner.grid
    cp = grid.layout.cp
    shares = [context_share(order.positions_A, cp=cp, cp_rank=rank) for rank in range(cp)]
    own_P = shares[grid.place.cp_rank]
    source_P = order.source_A[own_P]
    is_added_P = source_P < 0
    is_continued_T = _shifted(batch.positions_NT[number]) > 0

    def picked[Scalar: np.generic](values_T: NDArray[Scalar]) -> torch.Tensor:
        values_P = values_T[source_P]
        values_P[is_added_P] = 0
        return torch.from_numpy(values_P).to(grid.device)

    def floats(values_T: Floats) -> torch.Tensor:
        return picked(_shifted(values_T) * is_continued_T)

    def known_floats(values_MT: Floats | None) -> torch.Tensor | None:
        return None if values_MT is None else floats(values_MT[row])

    advantages_P = floats(batch.advantages_NT[number])
    factors_P = known_floats(known.advantage_factors_MT)
    if factors_P is not None:
        advantages_P = advantages_P * factors_P
    tokens_T = batch.tokens_NT[number].astype(np.int64)
    return MicroBatch(
        tokens_1P=picked(tokens_T)[None],
        positions_1P=torch.from_numpy(order.positions_A[own_P])[None].to(grid.device),
        targets_P=picked(_shifted(tokens_T)),
        source_P=source_P,
        is_scored_P=~is_added_P & (source_P < order.source_A.max()),
        groups_P=picked(_shifted(batch.groups_NT[number] + 1) * is_continued_T) - 1,
        packed=packed_sequences(
            torch.from_numpy(order.positions_A),
            rope=learner.rope,
            device=grid.device,
            dtype=learner.dtype,
            shares=[torch.from_numpy(share) for share in shares],
            cp_group=grid.groups.cp,
        ),
        loss=LossInputs(
            mask_T=floats(batch.mask_NT[number]),
            advantages_T=advantages_P,
            rollout_logprobs_T=floats(batch.rollout_logprobs_NT[number]),
            correct_T=floats(batch.correct_NT[number]),
            sequence_T=picked(_shifted(batch.segments_NT[number].astype(np.int64))),
            old_logprobs_T=known_floats(known.old_logprobs_MT),
            reference_logprobs_T=known_floats(known.reference_logprobs_MT),
            normalizer=batch.normalizer,
        ),
    )


def _num_used(batch: PackedBatch, number: int) -> int:
    """Tokens of a bin without its padding, at least one: the padding need not be computed."""
    segments_T = batch.segments_NT[number]
    last_T = segments_T == segments_T[-1]
    holds_T = (batch.tokens_NT[number] != PAD_TOKEN_ID) | (batch.mask_NT[number] > 0)
    is_padding = not bool(np.any(last_T & holds_T))
    return max(1, len(segments_T) - is_padding * int(last_T.sum()))


def _token_multiple(layout: LearnerLayout) -> int:
    """Tokens of a bin come in multiples of it: equally many for every rank that shares them."""
    tokens = 1 if layout.fp8 is Fp8.OFF else _FP8_MULTIPLE
    tokens *= layout.tp if layout.sequence_parallel else 1
    return math.lcm(2 * layout.cp, tokens * layout.cp) if layout.cp > 1 else tokens


def _shifted[Scalar: np.generic](values_T: NDArray[Scalar]) -> NDArray[Scalar]:
    """Entry t + 1 at place t, 0 at the last."""
    shifted_T = np.zeros_like(values_T)
    shifted_T[:-1] = values_T[1:]
    return shifted_T
