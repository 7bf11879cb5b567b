"""Module specs of our own layers: Megatron-Core's linear layers, our norm and attention."""

from functools import partial

from megatron.core.fusions.fused_bias_dropout import get_bias_dropout_add
from megatron.core.tensor_parallel.layers import ColumnParallelLinear, RowParallelLinear
from megatron.core.transformer.attention import SelfAttention, SelfAttentionSubmodules
from megatron.core.transformer.enums import AttnMaskType
from megatron.core.transformer.identity_op import IdentityOp
from megatron.core.transformer.mlp import MLP, MLPSubmodules
from megatron.core.transformer.moe.experts import SequentialMLP
from megatron.core.transformer.moe.moe_layer import MoELayer, MoESubmodules
from megatron.core.transformer.spec_utils import ModuleSpec
from megatron.core.transformer.transformer_block import TransformerBlockSubmodules
from megatron.core.transformer.transformer_layer import (
    TransformerLayer,
    TransformerLayerSubmodules,
)

from e3mega.families.geometry import ModelOptions
from e3mega.families.registry import form_of
from e3mega.mcore.activation import SwiGLU
from e3mega.mcore.attention import PackedAttention
from e3mega.mcore.norm import RMSNorm


def local_block(model: ModelOptions, layers: range) -> TransformerBlockSubmodules:
    """Module specs of a chunk's layers and of the final norm."""
    specs = [_layer(model, has_experts=model.has_experts_in(layer)) for layer in layers]
    return TransformerBlockSubmodules(layer_specs=specs, layer_norm=RMSNorm)


def _layer(model: ModelOptions, *, has_experts: bool) -> ModuleSpec:
    head_norm = RMSNorm if form_of(model).has_qk_norm else IdentityOp
    feed_forward = MLPSubmodules(
        linear_fc1=ColumnParallelLinear, linear_fc2=RowParallelLinear, activation_func=SwiGLU
    )
    dense = partial(MLP.as_mlp_submodule, submodules=feed_forward)
    experts = MoESubmodules(experts=partial(SequentialMLP, submodules=feed_forward))
    # Checkpoints carry the names of TE's layers, which hold the norm before a matrix with it.
    names = {"input_layernorm.": "self_attention.linear_qkv.layer_norm_"}
    if not has_experts:
        names["pre_mlp_layernorm."] = "mlp.linear_fc1.layer_norm_"
    return ModuleSpec(
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
                    q_layernorm=head_norm,
                    k_layernorm=head_norm,
                ),
            ),
            # Megatron calls functions here and declares modules.
            self_attn_bda=get_bias_dropout_add,  # pyright: ignore[reportArgumentType]
            pre_mlp_layernorm=RMSNorm,
            mlp=partial(MoELayer, submodules=experts) if has_experts else dense,
            mlp_bda=get_bias_dropout_add,  # pyright: ignore[reportArgumentType]
            sharded_state_dict_keys_map=names,
        ),
    )
