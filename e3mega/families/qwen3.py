"""Qwen3, dense and with experts."""

from e3mega.families.form import FamilyForm

QWEN3 = FamilyForm(
    architecture="Qwen3ForCausalLM",
    model_type="qwen3",
    has_qk_norm=True,
    has_qkv_bias=False,
    has_experts=False,
    settings={"attention_bias": False, "use_sliding_window": False},
    passed_over=frozenset({"max_window_layers", "sliding_window"}),
    head_dim=128,
)

QWEN3_MOE = FamilyForm(
    architecture="Qwen3MoeForCausalLM",
    model_type="qwen3_moe",
    has_qk_norm=True,
    has_qkv_bias=False,
    has_experts=True,
    settings={"attention_bias": False, "use_sliding_window": False},
    passed_over=frozenset(
        {"max_window_layers", "output_router_logits", "router_aux_loss_coef", "sliding_window"}
    ),
)
