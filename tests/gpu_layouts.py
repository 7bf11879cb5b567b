"""What a GPU layout compiles to, as a table that is read by people and compared by a test.

``python -m tests.gpu_layouts`` writes ``tests/data/gpu_layouts.json`` anew; its difference is
reviewed like code.
"""

import dataclasses
import json
from enum import Enum
from pathlib import Path
from typing import Any

from megatron.core.distributed import DistributedDataParallelConfig
from megatron.core.optimizer import OptimizerConfig
from megatron.core.transformer.transformer_config import TransformerConfig

from e3mega.families.geometry import ExpertOptions, Family, ModelOptions, Precision
from e3mega.mcore.config import gradient_config, optimizer_config, transformer_config
from e3mega.mcore.te_layers import FINAL_NORM, layer_modules
from e3mega.spec.schema.layout import Device, Fp8, LayerImplementation, LearnerLayout, Recompute
from e3mega.spec.schema.optimizer import OptimizerOptions

TABLE = Path(__file__).parent / "data" / "gpu_layouts.json"
QWEN3_1_7B = ModelOptions(
    family=Family.QWEN3,
    num_layers=28,
    hidden_size=2048,
    num_heads=16,
    num_kv_heads=8,
    head_dim=128,
    ffn_size=6144,
    vocab_size=151_936,
    max_context_tokens=40_960,
    precision=Precision.BFLOAT16,
)
_EXPERTS = ExpertOptions(num_experts=128, experts_per_token=8, ffn_size=768, normalizes_gates=True)
_QWEN3_30B_A3B = QWEN3_1_7B.model_copy(
    update={
        "family": Family.QWEN3_MOE,
        "num_layers": 48,
        "num_heads": 32,
        "num_kv_heads": 4,
        "experts": _EXPERTS,
        "ties_embeddings": False,
    }
)
_QWEN2_7B = QWEN3_1_7B.model_copy(
    update={
        **{"family": Family.QWEN2, "hidden_size": 3584, "num_heads": 28, "num_kv_heads": 4},
        **{"ffn_size": 18_944, "vocab_size": 152_064, "ties_embeddings": False},
    }
)
_GPU = LearnerLayout(
    device=Device.GPU,
    layers=LayerImplementation.TRANSFORMER_ENGINE,
    overlap_grad_reduce=True,
    overlap_param_gather=True,
)
CASES: dict[str, tuple[ModelOptions, LearnerLayout]] = {
    "qwen3-1.7b on one GPU": (QWEN3_1_7B, _GPU),
    "qwen3-1.7b in 8 bits": (QWEN3_1_7B, _GPU.model_copy(update={"fp8": Fp8.BLOCKWISE})),
    "qwen3-1.7b without Transformer Engine": (
        QWEN3_1_7B,
        _GPU.model_copy(update={"layers": LayerImplementation.LOCAL}),
    ),
    "qwen3-1.7b, long context": (
        QWEN3_1_7B,
        _GPU.model_copy(
            update={"tp": 2, "cp": 2, "sequence_parallel": True, "recompute": Recompute.ATTENTION}
        ),
    ),
    "qwen2.5-7b, interleaved stages": (
        _QWEN2_7B,
        _GPU.model_copy(
            update={"tp": 4, "pp": 2, "chunks_per_stage": 2, "layers_per_chunk": (6, 8, 8, 6)}
        ),
    ),
    "qwen3-30b-a3b": (
        _QWEN3_30B_A3B,
        _GPU.model_copy(
            update={
                **{"tp": 2, "pp": 2, "dp": 4, "ep": 8, "sequence_parallel": True},
                "recompute": Recompute.FULL,
            }
        ),
    ),
}


def compiled(model: ModelOptions, layout: LearnerLayout) -> dict[str, Any]:
    """What differs from Megatron's defaults, and the modules of each kind of layer."""
    is_te = layout.layers is LayerImplementation.TRANSFORMER_ENGINE
    kinds = sorted({model.has_experts_in(layer) for layer in range(model.num_layers)})
    modules = {
        "experts" if has_experts else "dense": layer_modules(model, has_experts=has_experts)
        for has_experts in kinds
    }
    optimizer = optimizer_config(model, layout, OptimizerOptions())
    return {
        "transformer": _changed(
            transformer_config(model, layout, uses_te=is_te),
            TransformerConfig(num_layers=model.num_layers, num_attention_heads=1),
        ),
        "gradients": _changed(gradient_config(layout), DistributedDataParallelConfig()),
        "optimizer": _changed(optimizer, OptimizerConfig()),
        "modules": {**modules, "final_layernorm": FINAL_NORM} if is_te else "local",
    }


def _changed(config: Any, default: Any) -> dict[str, Any]:
    names = [field.name for field in dataclasses.fields(config)]
    return {
        name: _shown(getattr(config, name))
        for name in names
        if _shown(getattr(config, name)) != _shown(getattr(default, name))
    }


def _shown(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_shown(each) for each in value]
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, dict):
        return {str(key): _shown(each) for key, each in value.items()}
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if callable(value):
        return getattr(value, "__name__", type(value).__name__)
    return str(value)


def table() -> dict[str, Any]:
    """Every case, compiled."""
    return {name: compiled(model, layout) for name, (model, layout) in CASES.items()}


if __name__ == "__main__":
    TABLE.write_text(json.dumps(table(), indent=1) + "\n")
