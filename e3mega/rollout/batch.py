"""The packed batch that one optimizer step consumes, as a safetensors file without torch."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Shape letters: N bins (micro-batches), T tokens of a bin.


@dataclass(frozen=True, slots=True)
class PackedBatch:
    """Sequences packed into bins of equal length; padding is a sequence of its own.

    Every array is (N, T). Entry t belongs to token t: its log-probability is read from the logits
    at t - 1 of the same sequence. Example: ``read_batch(paths.batch("easy", 7))``.
    """

    stage: str
    step: int
    """Global number of the step that consumes it, from 0."""
    round: int
    version: int
    """Version that generated it."""
    lag: int
    """Rounds between that version and the one that trains on it."""
    normalizer: float
    """Denominator of the loss: of the whole step, the same on every rank and micro-batch."""
    tokens_NT: NDArray[np.int32]
    positions_NT: NDArray[np.int32]
    """Restart at 0 with every sequence."""
    segments_NT: NDArray[np.int32]
    """Number of the sequence within its bin, from 0; the padding is the last one."""
    mask_NT: NDArray[np.float32]
    """Weight of the token's term over the normalizer; 0 where it does not train (prompts,
    padding, samples that the sign rule drops)."""
    advantages_NT: NDArray[np.float32]
    """Times the weight of their sign; 0 where the mask is 0."""
    rollout_logprobs_NT: NDArray[np.float32]
    """As sampled; 0 in a supervised stage."""
    correct_NT: NDArray[np.float32]
    """1 on completion tokens of correct traces; for per-sign metrics."""
    groups_NT: NDArray[np.int32]
    """Number of the token's prompt within the step; -1 on prompts and padding."""
