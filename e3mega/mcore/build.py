"""Builds the learner's model and optimizer from a plan, with Megatron-Core's own classes."""

from dataclasses import dataclass
from functools import partial

import torch
from megatron.core.distributed import (
    DistributedDataParallel,
    DistributedDataParallelConfig,
    finalize_model_grads,
)
from megatron.core.fusions.fused_bias_dropout import get_bias_dropout_add
from megatron.core.models.gpt.gpt_model import GPTModel
from megatron.core.optimizer import MegatronOptimizer, OptimizerConfig, get_megatron_optimizer
from megatron.core.process_groups_config import ProcessGroupCollection
from megatron.core.tensor_parallel.layers import ColumnParallelLinear, RowParallelLinear
from megatron.core.transformer.attention import SelfAttention, SelfAttentionSubmodules
from megatron.core.transformer.enums import AttnMaskType
from megatron.core.transformer.mlp import MLP, MLPSubmodules
from megatron.core.transformer.spec_utils import ModuleSpec
from megatron.core.transformer.transformer_block import (
    TransformerBlockSubmodules,
    get_num_layers_to_build,
)
from megatron.core.transformer.transformer_config import TransformerConfig
from megatron.core.transformer.transformer_layer import (
    TransformerLayer,
    TransformerLayerSubmodules,
    get_transformer_layer_offset,
)
from torch.nn.functional import silu

from e3mega.device import CPU
from e3mega.families.geometry import ModelOptions, Precision
from e3mega.families.mapping import Place, Weight
from e3mega.families.registry import weights
from e3mega.mcore.activation import SwiGLU
from e3mega.mcore.attention import PackedAttention
from e3mega.mcore.norm import RMSNorm
from e3mega.mcore.parallel import RankGrid
from e3mega.plan.planfile import Plan
from e3mega.spec.schema.optimizer import OptimizerOptions

_DTYPES = {Precision.FLOAT32: torch.float32, Precision.BFLOAT16: torch.bfloat16}


@dataclass(frozen=True, slots=True)
class LearnerModel:
    """This rank's share of the model and of the optimizer.

    A checkpoint needs ``chunks`` (their ``sharded_state_dict``), ``optimizer`` (Megatron's
    distributed optimizer) and nothing else of the learner: the learning rate is a pure function
    of the stage's options and step, set before every step, and no operation draws random numbers
    after the start.
    """

    model: ModelOptions
    grid: RankGrid
    config: TransformerConfig
    chunks: list[DistributedDataParallel]
    """Pipeline chunks of this rank; one, as long as stages are not interleaved."""
    optimizer: MegatronOptimizer

    @property
    def dtype(self) -> torch.dtype:
        """Number format of weights and activations."""
        return _DTYPES[self.model.precision]

    def named_parameters(self) -> dict[str, torch.nn.Parameter]:
        """This rank's parameters by their Megatron names."""
        return dict(self.chunks[0].module.named_parameters())

    def held_weights(self) -> tuple[tuple[Weight, str], ...]:
        """Lines of the mapping table this pipeline stage holds, with this rank's name for each.

        A tied embedding is held by the first stage; the last stage's copy is not listed.
        """
        return tuple(
            (weight, weight.megatron_name.format(layer=weight.layer - self._first_layer()))
            for weight in weights(self.model)
            if self.stage_of(weight) == self.grid.pp_rank
        )

    def stage_of(self, weight: Weight) -> int:
        """The pipeline stage that holds a weight."""
        if weight.place is Place.FIRST:
            return 0
        if weight.place is Place.LAST:
            return self.grid.pp - 1
        return weight.layer // (self.model.num_layers // self.grid.pp)

    def _first_layer(self) -> int:
        return get_transformer_layer_offset(self.config, None, self.grid.pp_rank)


def build_learner(plan: Plan, grid: RankGrid) -> LearnerModel:
    """Build this rank's share; weights are unset until ``weights.load`` fills them.

    All ranks call it. It needs ``init_parallel`` to have run.
    """
    return build_model(plan.model, plan.stages[0].optimizer, grid)


def build_model(
    model: ModelOptions, optimizer_options: OptimizerOptions, grid: RankGrid
) -> LearnerModel:
    """The same from the options themselves."""
    config = transformer_config(model, grid)
    network = GPTModel(
        config=config,
        # Megatron takes a block's spec too; it declares a layer's only.
        transformer_layer_spec=block_spec(config, grid),  # pyright: ignore[reportArgumentType]
        vocab_size=model.vocab_size,
        max_sequence_length=model.max_context_tokens,
        pre_process=grid.is_first_stage,
        post_process=grid.is_last_stage,
        parallel_output=True,
        share_embeddings_and_output_weights=model.ties_embeddings,
        position_embedding_type="none",
        pg_collection=grid.groups,
    ).to(grid.device)
    chunk = DistributedDataParallel(
        config,
        DistributedDataParallelConfig(
            grad_reduce_in_fp32=True,
            overlap_grad_reduce=False,
            use_distributed_optimizer=True,
        ),
        network,
        pg_collection=grid.groups,
    )
    optimizer = get_megatron_optimizer(
        optimizer_config(model, optimizer_options), [chunk], use_gloo_process_groups=False
    )
    config.no_sync_func = chunk.no_sync
    config.finalize_model_grads_func = _finalize_gradients
    return LearnerModel(model, grid, config, [chunk], optimizer)


def transformer_config(model: ModelOptions, grid: RankGrid) -> TransformerConfig:
    """Megatron's configuration of the model on this grid."""
    dtype = _DTYPES[model.precision]
    return TransformerConfig(
        num_layers=model.num_layers,
        hidden_size=model.hidden_size,
        num_attention_heads=model.num_heads,
        num_query_groups=model.num_kv_heads,
        kv_channels=model.head_dim,
        ffn_hidden_size=model.ffn_size,
        layernorm_epsilon=model.norm_eps,
        normalization="RMSNorm",
        qk_layernorm=True,
        gated_linear_unit=True,
        activation_func=silu,
        # The spec's activation, ours, takes gate and up together.
        use_te_activation_func=True,
        add_bias_linear=False,
        hidden_dropout=0.0,
        attention_dropout=0.0,
        tensor_model_parallel_size=grid.tp,
        pipeline_model_parallel_size=grid.pp,
        pipeline_dtype=dtype,
        params_dtype=dtype,
        bf16=dtype is torch.bfloat16,
        use_cpu_initialization=grid.device.type == CPU,
        # Starting weights come from a folder, a checkpoint or the seeded start; see weights.load.
        perform_initialization=False,
        # The loss carries its own normalizer, so gradients are summed over ranks, not averaged.
        calculate_per_token_loss=True,
        gradient_accumulation_fusion=False,
        bias_activation_fusion=False,
        bias_dropout_fusion=False,
        masked_softmax_fusion=False,
        apply_rope_fusion=False,
        persist_layer_norm=False,
        deterministic_mode=torch.are_deterministic_algorithms_enabled(),
        deallocate_pipeline_outputs=False,
        # With it, losses over gloo look plausible and are wrong.
        batch_p2p_comm=False,
    )


def block_spec(config: TransformerConfig, grid: RankGrid) -> TransformerBlockSubmodules:
    """Module specs of this rank's layers and of the final norm."""
    layer = ModuleSpec(
        module=TransformerLayer,
        submodules=TransformerLayerSubmodules(
            input_layernorm=RMSNorm,
            self_attention=ModuleSpec(
                module=SelfAttention,
                params={"attn_mask_type": AttnMaskType.causal},
                submodules=SelfAttentionSubmodules(
                    linear_qkv=ColumnParallelLinear,
                    # It is called with our packed sequences, not with Megatron's.
                    core_attention=PackedAttention,  # pyright: ignore[reportArgumentType]
                    linear_proj=RowParallelLinear,
                    q_layernorm=RMSNorm,
                    k_layernorm=RMSNorm,
                ),
            ),
            # Megatron calls functions here and declares modules.
            self_attn_bda=get_bias_dropout_add,  # pyright: ignore[reportArgumentType]
            pre_mlp_layernorm=RMSNorm,
            mlp=partial(
                MLP.as_mlp_submodule,
                submodules=MLPSubmodules(
                    linear_fc1=ColumnParallelLinear,
                    linear_fc2=RowParallelLinear,
                    activation_func=SwiGLU,
                ),
            ),
            mlp_bda=get_bias_dropout_add,  # pyright: ignore[reportArgumentType]
        ),
    )
    num_layers = get_num_layers_to_build(config, None, grid.pp_rank)
    return TransformerBlockSubmodules(layer_specs=[layer] * num_layers, layer_norm=RMSNorm)


def optimizer_config(model: ModelOptions, options: OptimizerOptions) -> OptimizerConfig:
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
        params_dtype=_DTYPES[model.precision],
        use_distributed_optimizer=True,
    )


def _finalize_gradients(
    chunks: list[torch.nn.Module],
    num_tokens: torch.Tensor | None,
    pg_collection: ProcessGroupCollection | None = None,
    force_all_reduce: bool = False,
) -> None:
    """Reduce gradients without dividing them: the loss is already normalised."""
    finalize_model_grads(
        chunks, None, pg_collection=pg_collection, force_all_reduce=force_all_reduce
    )
