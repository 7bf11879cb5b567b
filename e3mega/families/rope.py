"""Scaling of rotary embeddings, as Hugging Face configs state it."""

from typing import Annotated, Literal

from pydantic import Field

from e3mega.options import Options, PositiveFloat, TokenCount


class LinearRope(Options):
    """Positions divided by a factor (arXiv 2306.15595)."""

    kind: Literal["linear"]
    """Names the scaling."""
    factor: PositiveFloat
    """What positions are divided by."""


class Llama3Rope(Options):
    """Low frequencies divided by a factor, high ones kept, a ramp between (Llama 3.1)."""

    kind: Literal["llama3"]
    """Names the scaling."""
    factor: PositiveFloat
    """What low frequencies are divided by."""
    low_freq_factor: PositiveFloat
    """Turns within the original context below which a frequency is low."""
    high_freq_factor: PositiveFloat
    """Turns within the original context above which a frequency is high."""
    original_context_tokens: TokenCount
    """Context that the model had before the scaling."""


class YarnRope(Options):
    """Frequencies blended by how often they turn within the original context (arXiv
    2309.00071)."""

    kind: Literal["yarn"]
    """Names the scaling."""
    factor: PositiveFloat
    """What low frequencies are divided by."""
    original_context_tokens: TokenCount
    """Context that the model had before the scaling."""
    beta_fast: PositiveFloat = 32.0
    """Turns within the original context above which a frequency is kept."""
    beta_slow: PositiveFloat = 1.0
    """Turns within the original context below which a frequency is divided."""
    attention_factor: PositiveFloat
    """What cosines and sines are multiplied by; 0.1 ln(factor) + 1 unless the model says else."""
    truncates: bool = True
    """Whether the ends of the ramp are rounded outwards to whole dimensions."""


RopeScaling = Annotated[LinearRope | Llama3Rope | YarnRope, Field(discriminator="kind")]
