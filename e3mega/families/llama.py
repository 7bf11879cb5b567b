"""Llama 3.x, dense."""

from e3mega.families.form import FamilyForm

LLAMA = FamilyForm(
    architecture="LlamaForCausalLM",
    model_type="llama",
    has_qk_norm=False,
    has_qkv_bias=False,
    has_experts=False,
    settings={"attention_bias": False, "mlp_bias": False},
    passed_over=frozenset({"pretraining_tp"}),
)
