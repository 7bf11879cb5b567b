"""What makes a model family: its Hugging Face names, and how its layers differ from others'."""

from dataclasses import dataclass

from e3mega.metrics import Json


@dataclass(frozen=True, slots=True)
class FamilyForm:
    """One line of the registry. Example: ``QWEN3`` in ``families/qwen3.py``."""

    architecture: str
    """Class of transformers that ``config.json`` names."""
    model_type: str
    """transformers' name of the family."""
    has_qk_norm: bool
    """Whether queries and keys are normalised head by head."""
    has_qkv_bias: bool
    """Whether query, key and value projections have biases."""
    has_experts: bool
    """Whether feed-forward blocks may be experts."""
    settings: dict[str, Json]
    """Settings of ``config.json`` that are written with this value, and refused with another."""
    passed_over: frozenset[str] = frozenset()
    """Settings of ``config.json`` that do not change what is computed here."""
    head_dim: int | None = None
    """Width of a head where ``config.json`` does not say it; None stands for hidden_size over
    num_attention_heads."""
