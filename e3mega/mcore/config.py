"""Megatron-Core's configurations of the model, of its gradients and of its optimizer."""

from typing import Any

import torch
from megatron.core.distributed import DistributedDataParallelConfig
from megatron.core.optimizer import OptimizerConfig
from megatron.core.transformer.transformer_config import TransformerConfig
from torch.nn.functional import silu

from e3mega.families.geometry import ModelOptions, Precision
from e3mega.families.registry import form_of
from e3mega.mcore.parallel import num_interleaved
from e3mega.plan.topology import chunk_layers
from e3mega.spec.schema.layout import Device, Fp8, LearnerLayout, Recompute
from e3mega.spec.schema.optimizer import OptimizerOptions

DTYPES = {Precision.FLOAT32: torch.float32, Precision.BFLOAT16: torch.bfloat16}


def transformer_config(
    model: ModelOptions, layout: LearnerLayout, *, uses_te: bool
) -> TransformerConfig:
    """Megatron's configuration of the model on this grid, of TE's layers or of Megatron's own."""
    dtype = DTYPES[model.precision]
    return TransformerConfig(
        num_layers=model.num_layers,
        hidden_size=model.hidden_size,
        num_attention_heads=model.num_heads,
        num_query_groups=model.num_kv_heads,
        kv_channels=model.head_dim,
        ffn_hidden_size=model.ffn_size,
        layernorm_epsilon=model.norm_eps,
        normalization="RMSNorm",
        qk_layernorm=form_of(model).has_qk_norm,
        add_qkv_bias=form_of(model).has_qkv_bias,
        gated_linear_unit=True,
        activation_func=silu,
        # The spec of our own layers has an activation that takes gate and up together.
        use_te_activation_func=not uses_te,
        bias_activation_fusion=uses_te,
        add_bias_linear=False,
        hidden_dropout=0.0,
        attention_dropout=0.0,
        tensor_model_parallel_size=layout.tp,
        sequence_parallel=layout.sequence_parallel,
        context_parallel_size=layout.cp,
        pipeline_model_parallel_size=layout.pp,
        virtual_pipeline_model_parallel_size=num_interleaved(layout),
        pipeline_model_parallel_layout=_pipeline_layout(model, layout),
        expert_model_parallel_size=layout.ep,
        expert_tensor_parallel_size=layout.expert_tp,
        pipeline_dtype=dtype,
        params_dtype=dtype,
        bf16=dtype is torch.bfloat16,
        use_cpu_initialization=layout.device is Device.CPU,
        # Starting weights come from a folder, a checkpoint or the seeded start; see weights.load.
        perform_initialization=False,
        # The loss carries its own normalizer, so gradients are summed over ranks, not averaged.
        calculate_per_token_loss=True,
        gradient_accumulation_fusion=False,
        bias_dropout_fusion=False,
        masked_softmax_fusion=False,
        apply_rope_fusion=False,
        persist_layer_norm=False,
        deterministic_mode=layout.is_deterministic,
        deallocate_pipeline_outputs=False,
        # Over gloo, losses would look plausible and be wrong.
        batch_p2p_comm=layout.device is Device.GPU,
        **_expert_settings(model, uses_te=uses_te),
        **_RECOMPUTE[layout.recompute],
        **_fp8_settings(layout),
    )


def gradient_config(layout: LearnerLayout) -> DistributedDataParallelConfig:
    """How gradients are kept and reduced: in fp32, over data-parallel ranks."""
    return DistributedDataParallelConfig(
        grad_reduce_in_fp32=True,
        overlap_grad_reduce=layout.overlap_grad_reduce,
        overlap_param_gather=layout.overlap_param_gather,
        use_distributed_optimizer=True,
    )


def optimizer_config(
    model: ModelOptions, layout: LearnerLayout, options: OptimizerOptions
) -> OptimizerConfig:
    """Megatron's configuration of AdamW; the learner sets a stage's values before each step."""
    return OptimizerConfig(
        optimizer="adam",
        lr=options.learning_rate,
        min_lr=options.min_learning_rate,
        weight_decay=options.weight_decay,
        adam_beta1=options.beta1,
        adam_beta2=options.beta2,
        adam_eps=options.eps,
        clip_grad=options.clip_grad_norm,
        bf16=model.precision is Precision.BFLOAT16,
        params_dtype=DTYPES[model.precision],
        use_distributed_optimizer=True,
        overlap_param_gather=layout.overlap_param_gather,
    )


def _pipeline_layout(model: ModelOptions, layout: LearnerLayout) -> list[list[str]] | None:
    """Each chunk's layers by their kinds, in the order of the model."""
    if layout.pp == 1:
        return None
    chunks = [["decoder"] * len(layers) for layers in chunk_layers(model.num_layers, layout)]
    chunks[0].insert(0, "embedding")
    chunks[-1].append("loss")
    return chunks


def _expert_settings(model: ModelOptions, *, uses_te: bool) -> dict[str, Any]:
    experts = model.experts
    if experts is None:
        return {}
    return {
        "num_moe_experts": experts.num_experts,
        "moe_router_topk": experts.experts_per_token,
        "moe_ffn_hidden_size": experts.ffn_size,
        "moe_layer_freq": [int(model.has_experts_in(layer)) for layer in range(model.num_layers)],
        "moe_router_load_balancing_type": "none",
        # Softmax over the picked experts alone equals that over all, scaled to sum to one.
        "moe_router_pre_softmax": not experts.normalizes_gates,
        "moe_router_dtype": "fp32",
        "moe_token_dispatcher_type": "alltoall",
        "moe_grouped_gemm": uses_te,
    }


_RECOMPUTE: dict[Recompute, dict[str, Any]] = {
    Recompute.NONE: {},
    Recompute.ATTENTION: {
        "recompute_granularity": "selective",
        "recompute_modules": ["core_attn"],
    },
    Recompute.FULL: {
        "recompute_granularity": "full",
        "recompute_method": "uniform",
        "recompute_num_layers": 1,
    },
}


def _fp8_settings(layout: LearnerLayout) -> dict[str, Any]:
    if layout.fp8 is Fp8.OFF:
        return {}
    # Gradients have a wider range than activations and weights.
    return {"fp8": "hybrid", "fp8_recipe": layout.fp8.value}
