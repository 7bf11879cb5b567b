"""Numbers of transformers' model of an exported folder, in a process without Megatron-Core.

Loaded inside a learner's rank, the same folder gave other logits; why is not known (the stand-in
for CUDA is suspected), and a process of its own agrees with the learner.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM

# Shape letters: T tokens of a sequence, V words of the vocabulary.


def hf_logits(folder: Path, sequences: Sequence[Sequence[int]]) -> list[NDArray[np.float32]]:
    """Logits, (T, V) for each sequence."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        return [model(torch.tensor([list(tokens)])).logits[0].numpy() for tokens in sequences]


def log_softmax(logits_TV: NDArray[np.float32], temperature: float = 1.0) -> NDArray[np.float64]:
    """Log-probabilities in float64, (T, V)."""
    scaled_TV = logits_TV.astype(np.float64) / temperature
    scaled_TV -= scaled_TV.max(axis=-1, keepdims=True)
    return scaled_TV - np.log(np.exp(scaled_TV).sum(axis=-1, keepdims=True))
