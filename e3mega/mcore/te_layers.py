"""Module specs of Transformer Engine's layers, with our rotary embedding before its attention.

The layers are named in a table and looked up when a model is built: the table can be read, and
compared, where Transformer Engine is not installed.
"""

from functools import cache, partial
from typing import Any

import torch
from megatron.core.extensions import transformer_engine as extensions
from megatron.core.fusions.fused_bias_dropout import get_bias_dropout_add
from megatron.core.transformer.attention import SelfAttention, SelfAttentionSubmodules
from megatron.core.transformer.enums import AttnMaskType
from megatron.core.transformer.identity_op import IdentityOp
from megatron.core.transformer.mlp import MLP, MLPSubmodules
from megatron.core.transformer.moe.experts import GroupedMLPSubmodules, TEGroupedMLP
from megatron.core.transformer.moe.moe_layer import MoELayer, MoESubmodules
from megatron.core.transformer.spec_utils import ModuleSpec
from megatron.core.transformer.transformer_block import TransformerBlockSubmodules
from megatron.core.transformer.transformer_layer import (
    TransformerLayer,
    TransformerLayerSubmodules,
)

from e3mega.errors import JobError
from e3mega.families.geometry import ModelOptions
from e3mega.families.registry import form_of
from e3mega.mcore.attention import PackedSequences, rotated
from e3mega.spec.schema.layout import Device, LayerImplementation, LearnerLayout

_NONE = "IdentityOp"
"""Megatron's module that does nothing: Transformer Engine's matrices hold the norm before them."""
_ATTENTION = {
    "input_layernorm": _NONE,
    "linear_qkv": "TELayerNormColumnParallelLinear",
    "core_attention": "TEDotProductAttention",
    "linear_proj": "TERowParallelLinear",
}
_DENSE = {
    "pre_mlp_layernorm": _NONE,
    "linear_fc1": "TELayerNormColumnParallelLinear",
    "linear_fc2": "TERowParallelLinear",
}
_EXPERTS = {
    "pre_mlp_layernorm": "TENorm",
    "linear_fc1": "TEColumnParallelGroupedLinear",
    "linear_fc2": "TERowParallelGroupedLinear",
}
FINAL_NORM = "TENorm"


def layer_modules(model: ModelOptions, *, has_experts: bool) -> dict[str, str]:
    """What each part of a layer is made of, by the name of its class."""
    head_norm = "TENorm" if form_of(model).has_qk_norm else _NONE
    norms = {"q_layernorm": head_norm, "k_layernorm": head_norm}
    return {**_ATTENTION, **norms, **(_EXPERTS if has_experts else _DENSE)}


def uses_te(layout: LearnerLayout, *, is_installed: bool = extensions.HAVE_TE) -> bool:
    """Whether the learner is built of Transformer Engine's layers.

    Raises JobError where the layout asks for them and they are not installed.
    """
    if layout.device is Device.CPU or layout.layers is LayerImplementation.LOCAL:
        return False
    if is_installed:
        return True
    if layout.layers is LayerImplementation.TRANSFORMER_ENGINE:
        raise JobError(
            "learner: layout.learner.layers: transformer_engine, but it is not installed on this "
            "machine; install transformer-engine, or use layers: local"
        )
    return False


def te_block(model: ModelOptions, layers: range) -> TransformerBlockSubmodules:
    """Module specs of a chunk's layers and of the final norm."""
    specs = [_layer(model, has_experts=model.has_experts_in(layer)) for layer in layers]
    return TransformerBlockSubmodules(layer_specs=specs, layer_norm=_module(FINAL_NORM))


def _layer(model: ModelOptions, *, has_experts: bool) -> ModuleSpec:
    modules = {
        part: _module(name) for part, name in layer_modules(model, has_experts=has_experts).items()
    }
    matrices = {"linear_fc1": modules["linear_fc1"], "linear_fc2": modules["linear_fc2"]}
    experts = partial(TEGroupedMLP, submodules=GroupedMLPSubmodules(**matrices))
    dense = partial(MLP.as_mlp_submodule, submodules=MLPSubmodules(**matrices))
    routed = partial(MoELayer, submodules=MoESubmodules(experts=experts))
    return ModuleSpec(
        module=TransformerLayer,
        submodules=TransformerLayerSubmodules(
            input_layernorm=modules["input_layernorm"],
            self_attention=ModuleSpec(
                module=SelfAttention,
                params={"attn_mask_type": AttnMaskType.causal},
                submodules=SelfAttentionSubmodules(
                    linear_qkv=modules["linear_qkv"],
                    core_attention=modules["core_attention"],
                    linear_proj=modules["linear_proj"],
                    q_layernorm=modules["q_layernorm"],
                    k_layernorm=modules["k_layernorm"],
                ),
            ),
            # Megatron calls functions here and declares modules.
            self_attn_bda=get_bias_dropout_add,  # pyright: ignore[reportArgumentType]
            pre_mlp_layernorm=modules["pre_mlp_layernorm"],
            mlp=routed if has_experts else dense,
            mlp_bda=get_bias_dropout_add,  # pyright: ignore[reportArgumentType]
        ),
    )


def _module(name: str) -> Any:
    if name == _NONE:
        return IdentityOp
    return _rotary_attention() if name == "TEDotProductAttention" else getattr(extensions, name)


@cache
def _rotary_attention() -> Any:
    """Transformer Engine's attention behind our rotary embedding.

    A subclass, so that its parameters and its state in a checkpoint keep their names.
    """
    base: Any = extensions.TEDotProductAttention

    class RotaryAttention(base):
        """Rotates queries and keys by each token's position in its sequence, then attends."""

        def forward(
            self,
            query_THD: torch.Tensor,
            key_THD: torch.Tensor,
            value_THD: torch.Tensor,
            *arguments: Any,
            packed_seq_params: PackedSequences,
            **keywords: Any,
        ) -> torch.Tensor:
            """Attended values, (T, H * D)."""
            return super().forward(
                rotated(query_THD, packed_seq_params),
                rotated(key_THD, packed_seq_params),
                value_THD,
                *arguments,
                packed_seq_params=packed_seq_params,
                **keywords,
            )

    return RotaryAttention
