"""Packing of sequences into bins of equal length."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from e3mega.rollout.batch import PackedBatch
from e3mega.rollout.records import TrainSequence

# Shape letters: N bins (micro-batches), T tokens of a bin.

PAD_TOKEN_ID = 0
"""What fills the rest of a bin; never trained on and never attended to by a sequence."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a sequence lies in a batch. Example: ``Place(bin=1, segment=0, start=0)``."""

    bin: int
    segment: int
    start: int
    """Token of the bin at which the sequence starts."""


def place(
    lengths: Sequence[int], *, packed_tokens: int, num_bins_multiple: int
) -> tuple[tuple[Place, ...], int]:
    """Places of sequences of these lengths, in their order, and the number of bins.

    Longest first, each into the first bin with room (first-fit decreasing; ties by position, so
    the outcome depends on nothing else). Bins are added until their number is a multiple of
    ``num_bins_multiple``; those hold padding only. A caller who needs the tokens of sequence i in
    a batch made by ``pack`` gets its place here from the same arguments.
    """
    assert lengths, "a batch needs at least one sequence"
    longest = max(lengths)
    assert longest <= packed_tokens, f"a sequence of {longest} tokens in bins of {packed_tokens}"
    assert min(lengths) > 0, "an empty sequence cannot be packed"
    order = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    room: list[int] = []
    num_segments: list[int] = []
    places: list[Place | None] = [None] * len(lengths)
    for index in order:
        length = lengths[index]
        chosen = next((b for b, left in enumerate(room) if left >= length), len(room))
        if chosen == len(room):
            room.append(packed_tokens)
            num_segments.append(0)
        places[index] = Place(chosen, num_segments[chosen], packed_tokens - room[chosen])
        room[chosen] -= length
        num_segments[chosen] += 1
    num_bins = -(-len(room) // num_bins_multiple) * num_bins_multiple
    return tuple(found for found in places if found is not None), num_bins


def pack(
    sequences: Sequence[TrainSequence],
    *,
    normalizer: float,
    packed_tokens: int,
    num_bins_multiple: int,
    stage: str,
    step: int,
    round: int,
    version: int,
    lag: int,
) -> PackedBatch:
    """Pack the sequences of one optimizer step.

    ``num_bins_multiple`` is the learner's dp, so that every data-parallel rank gets the same
    number of bins.
    """
    lengths = [len(sequence.token_ids) for sequence in sequences]
    places, num_bins = place(
        lengths, packed_tokens=packed_tokens, num_bins_multiple=num_bins_multiple
    )
    shape = (num_bins, packed_tokens)
    batch = PackedBatch(
        stage=stage,
        step=step,
        round=round,
        version=version,
        lag=lag,
        normalizer=normalizer,
        tokens_NT=np.full(shape, PAD_TOKEN_ID, np.int32),
        positions_NT=np.zeros(shape, np.int32),
        segments_NT=np.zeros(shape, np.int32),
        mask_NT=np.zeros(shape, np.float32),
        advantages_NT=np.zeros(shape, np.float32),
        rollout_logprobs_NT=np.zeros(shape, np.float32),
        correct_NT=np.zeros(shape, np.float32),
        groups_NT=np.full(shape, -1, np.int32),
    )
    counting = np.arange(packed_tokens, dtype=np.int32)
    used = [0] * num_bins
    num_segments = [0] * num_bins
    for sequence, at, length in zip(sequences, places, lengths, strict=True):
        _fill(batch, sequence, at)
        used[at.bin] = max(used[at.bin], at.start + length)
        num_segments[at.bin] = max(num_segments[at.bin], at.segment + 1)
    for number, filled in enumerate(used):
        batch.positions_NT[number, filled:] = counting[: packed_tokens - filled]
        batch.segments_NT[number, filled:] = num_segments[number]
    return batch


def _fill(batch: PackedBatch, sequence: TrainSequence, at: Place) -> None:
    """Write one sequence into its place."""
    end = at.start + len(sequence.token_ids)
    span = (at.bin, slice(at.start, end))
    answer = (at.bin, slice(at.start + sequence.num_prompt_tokens, end))
    mask = np.array(sequence.loss_mask, np.float32)
    batch.tokens_NT[span] = sequence.token_ids
    batch.positions_NT[span] = np.arange(end - at.start)
    batch.segments_NT[span] = at.segment
    batch.mask_NT[answer] = mask
    batch.advantages_NT[answer] = np.where(mask > 0, sequence.advantages, 0.0)
    batch.rollout_logprobs_NT[answer] = sequence.rollout_logprobs
    batch.correct_NT[answer] = float(sequence.is_correct)
    batch.groups_NT[answer] = sequence.group
