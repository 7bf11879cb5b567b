"""The geometry of a decoder-only transformer, as a spec's ``model`` section states it."""

from enum import Enum

from e3mega.options import NonNegativeFloat, Options, Positive, PositiveFloat, TokenCount


class Family(Enum):
    """Model families with a mapping table."""

    QWEN3 = "qwen3"
    """Qwen3 dense: grouped-query attention, QK norm, RoPE, RMSNorm, SwiGLU."""


class Precision(Enum):
    """Number format of weights and activations."""

    FLOAT32 = "float32"
    """IEEE single precision; the CPU's format."""
    BFLOAT16 = "bfloat16"
    """bfloat16 with fp32 main weights; the GPU's format."""


class ModelOptions(Options):
    """Family, geometry and starting weights of the model."""

    family: Family
    """Which mapping table and module spec apply."""
    num_layers: Positive
    """Transformer blocks."""
    hidden_size: Positive
    """Width of the residual stream."""
    num_heads: Positive
    """Query heads."""
    num_kv_heads: Positive
    """Key and value heads; divides num_heads."""
    head_dim: Positive
    """Width of one head."""
    ffn_size: Positive
    """Width of the SwiGLU feed-forward block."""
    vocab_size: Positive
    """Rows of the embedding, padding rows included."""
    max_context_tokens: TokenCount
    """Longest sequence the model is made for, prompt included."""
    rope_theta: PositiveFloat = 1_000_000.0
    """Base of the rotary frequencies."""
    norm_eps: PositiveFloat = 1e-6
    """Epsilon of RMSNorm."""
    ties_embeddings: bool = True
    """Whether the LM head is the embedding."""
    init_std: NonNegativeFloat = 0.02
    """Standard deviation of random starting weights."""
    precision: Precision = Precision.FLOAT32
    """Number format of weights and activations."""
    hf_path: str | None = None
    """Folder of starting weights in Hugging Face format; null starts from random weights."""
