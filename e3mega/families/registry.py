"""Which mapping table and configuration belong to a model family."""

from collections.abc import Callable

from e3mega.families import qwen3
from e3mega.families.geometry import Family, ModelOptions
from e3mega.families.mapping import Weight

_WEIGHTS: dict[Family, Callable[[ModelOptions], tuple[Weight, ...]]] = {Family.QWEN3: qwen3.weights}
_HF_CONFIGS: dict[Family, Callable[[ModelOptions], dict[str, object]]] = {
    Family.QWEN3: qwen3.hf_config
}


def weights(model: ModelOptions) -> tuple[Weight, ...]:
    """The mapping table of the model: every parameter, in the order of the HF model."""
    return _WEIGHTS[model.family](model)


def hf_config(model: ModelOptions) -> dict[str, object]:
    """config.json of the model, without the task's token ids."""
    return _HF_CONFIGS[model.family](model)
