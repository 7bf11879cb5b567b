"""Packing of sequences into bins of equal length."""

from collections.abc import Sequence

import numpy as np

from e3mega.rollout.batch import PackedBatch
from e3mega.rollout.bins import BinRules, Place, place
from e3mega.rollout.records import TrainSequence

# Shape letters: N bins (micro-batches), T tokens of a bin.

PAD_TOKEN_ID = 0
"""What fills the rest of a bin; never trained on and never attended to by a sequence."""


def pack(
    sequences: Sequence[TrainSequence],
    *,
    normalizer: float,
    rules: BinRules,
    stage: str,
    step: int,
    round: int,
    version: int,
    lag: int,
) -> PackedBatch:
    """Pack the sequences of one optimizer step; see ``bins.place`` for where each goes."""
    lengths = [len(sequence.token_ids) for sequence in sequences]
    places, num_bins = place(lengths, rules)
    packed_tokens = rules.packed_tokens
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
