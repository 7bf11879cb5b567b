"""The geometry of a decoder-only transformer, as a spec's ``model`` section states it."""

from enum import Enum

from e3mega.families.rope import RopeScaling
from e3mega.options import (
    NonNegative,
    NonNegativeFloat,
    Options,
    Positive,
    PositiveFloat,
    Sha256,
    TokenCount,
)


class Family(Enum):
    """Model families with a mapping table."""

    QWEN3 = "qwen3"
    """Qwen3 dense: grouped-query attention, QK norm, RoPE, RMSNorm, SwiGLU."""
    QWEN3_MOE = "qwen3_moe"
    """Qwen3 with experts in place of feed-forward blocks."""
    QWEN2 = "qwen2"
    """Qwen2 and Qwen2.5 dense: biases of query, key and value, no QK norm."""
    LLAMA = "llama"
    """Llama 3.x: neither biases nor QK norm."""


class Precision(Enum):
    """Number format of weights and activations."""

    FLOAT32 = "float32"
    """IEEE single precision; the CPU's format."""
    BFLOAT16 = "bfloat16"
    """bfloat16 with fp32 main weights; the GPU's format."""


class ExpertOptions(Options):
    """Experts in place of feed-forward blocks."""

    num_experts: Positive
    """Experts of each layer that has any."""
    experts_per_token: Positive
    """Experts that the router picks for a token."""
    ffn_size: Positive
    """Width of one expert's SwiGLU block."""
    normalizes_gates: bool
    """Whether the picked experts' probabilities are scaled to sum to one."""
    dense_layers: tuple[NonNegative, ...] = ()
    """Layers, from 0, that keep a dense feed-forward block."""


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
    """Width of the dense SwiGLU feed-forward block."""
    experts: ExpertOptions | None = None
    """Experts of a family that has them; null for a dense model."""
    vocab_size: Positive
    """Rows of the embedding in the Hugging Face model; the learner pads them for its ranks."""
    max_context_tokens: TokenCount
    """Longest sequence the model is made for, prompt included."""
    rope_theta: PositiveFloat = 1_000_000.0
    """Base of the rotary frequencies."""
    rope_scaling: RopeScaling | None = None
    """How the rotary frequencies are scaled for a longer context; null leaves them."""
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
    hf_sha256: Sha256 | None = None
    """Digest that the folder must have, as ``e3mega pin`` writes it; null accepts any."""

    def has_experts_in(self, layer: int) -> bool:
        """Whether a layer has experts in place of a dense feed-forward block."""
        return self.experts is not None and layer not in self.experts.dense_layers
