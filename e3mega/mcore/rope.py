"""Frequencies of the rotary embedding, as transformers computes them."""

import math
from dataclasses import dataclass

import torch

from e3mega.families.geometry import ModelOptions
from e3mega.families.rope import LinearRope, Llama3Rope, YarnRope

# Shape letters: E half of a head's width.


@dataclass(frozen=True, slots=True)
class Rotary:
    """What turns a position into cosines and sines."""

    frequencies_E: torch.Tensor
    """Angle per position of each pair of a head's entries, fp32, on the host."""
    scale: float
    """What cosines and sines are multiplied by."""


def rotary(model: ModelOptions) -> Rotary:
    """The model's rotary embedding, in fp32 as the servers and transformers compute it."""
    dims_E = torch.arange(0, model.head_dim, 2, dtype=torch.float32)
    periods_E = model.rope_theta ** (dims_E / model.head_dim)
    scaling = model.rope_scaling
    if scaling is None:
        return Rotary(1.0 / periods_E, 1.0)
    if isinstance(scaling, LinearRope):
        return Rotary(1.0 / periods_E / scaling.factor, 1.0)
    if isinstance(scaling, Llama3Rope):
        return Rotary(_llama3(1.0 / periods_E, scaling), 1.0)
    return Rotary(_yarn(periods_E, scaling, model), scaling.attention_factor)


def _llama3(frequencies_E: torch.Tensor, scaling: Llama3Rope) -> torch.Tensor:
    """Below ``low_freq_factor`` turns within the original context divided, above
    ``high_freq_factor`` kept, and in proportion between."""
    wavelengths_E = 2 * math.pi / frequencies_E
    turns_E = scaling.original_context_tokens / wavelengths_E
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    kept_E = (turns_E - low) / (high - low)
    divided_E = frequencies_E / scaling.factor
    blended_E = (1 - kept_E) * divided_E + kept_E * frequencies_E
    found_E = torch.where(turns_E < low, divided_E, frequencies_E)
    return torch.where((turns_E >= low) & (turns_E <= high), blended_E, found_E)


def _yarn(periods_E: torch.Tensor, scaling: YarnRope, model: ModelOptions) -> torch.Tensor:
    """Kept above ``beta_fast`` turns within the original context, divided below ``beta_slow``, a
    ramp over the dimensions between (arXiv 2309.00071, section 3.2)."""

    def dim_of(turns: float) -> float:
        period = scaling.original_context_tokens / (turns * 2 * math.pi)
        return model.head_dim * math.log(period) / (2 * math.log(model.rope_theta))

    low, high = dim_of(scaling.beta_fast), dim_of(scaling.beta_slow)
    if scaling.truncates:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, model.head_dim - 1)
    width = high - low if high > low else 0.001
    ramp_E = ((torch.arange(len(periods_E), dtype=torch.float32) - low) / width).clamp(0, 1)
    kept_E = 1 - ramp_E
    return 1.0 / (scaling.factor * periods_E) * (1 - kept_E) + 1.0 / periods_E * kept_E
