"""Qwen2 and Qwen2.5, dense."""

from e3mega.families.form import FamilyForm

QWEN2 = FamilyForm(
    architecture="Qwen2ForCausalLM",
    model_type="qwen2",
    has_qk_norm=False,
    has_qkv_bias=True,
    has_experts=False,
    settings={"use_mrope": False, "use_sliding_window": False},
    passed_over=frozenset({"max_window_layers", "sliding_window"}),
)
