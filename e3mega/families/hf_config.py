"""A model's geometry between ``config.json`` and the spec's ``model`` section."""

import json
from pathlib import Path

from e3mega.errors import ModelError
from e3mega.families.form import FamilyForm
from e3mega.families.geometry import Family, ModelOptions
from e3mega.families.hf_rope import read_rope, rope_parameters
from e3mega.families.registry import FORMS, form_of
from e3mega.metrics import Json

_SIZES = {
    "num_layers": "num_hidden_layers",
    "hidden_size": "hidden_size",
    "num_heads": "num_attention_heads",
    "num_kv_heads": "num_key_value_heads",
    "ffn_size": "intermediate_size",
    "vocab_size": "vocab_size",
    "max_context_tokens": "max_position_embeddings",
    "norm_eps": "rms_norm_eps",
}
"""Keys of the ``model`` section, and of ``config.json``, that mean the same."""
_EXPERT_SIZES = {
    "num_experts": "num_experts",
    "experts_per_token": "num_experts_per_tok",
    "ffn_size": "moe_intermediate_size",
}
_NUM_EXPERTS_IN_5 = "num_local_experts"
"""transformers 5 writes ``num_experts`` under this name."""
_EXPERT_KEYS = frozenset(
    {
        *(*_EXPERT_SIZES.values(), _NUM_EXPERTS_IN_5),
        *("norm_topk_prob", "decoder_sparse_step", "mlp_only_layers"),
    }
)
_SETTINGS: dict[str, Json] = {"attention_dropout": 0.0, "hidden_act": "silu"}
_READ_ELSEWHERE = frozenset(
    {"head_dim", "tie_word_embeddings", "rope_parameters", "rope_scaling", "rope_theta"}
)
_PASSED_OVER = frozenset(
    {
        *("architectures", "model_type", "_name_or_path", "transformers_version", "use_cache"),
        *("bos_token_id", "eos_token_id", "pad_token_id", "dtype", "torch_dtype"),
        *("initializer_range", "layer_types"),
    }
)
"""Settings that do not change what is computed here, or are read where they are needed."""
_CHOSEN = frozenset({"hf_path", "precision", "init_std"})
"""Keys of the ``model`` section that are no geometry."""


def hf_config(model: ModelOptions) -> dict[str, Json]:
    """``config.json`` of the model, without the task's token ids."""
    form = form_of(model)
    found: dict[str, Json] = {
        "architectures": [form.architecture],
        "model_type": form.model_type,
        **_SETTINGS,
        **form.settings,
        **{theirs: getattr(model, ours) for ours, theirs in _SIZES.items()},
        "head_dim": model.head_dim,
        "tie_word_embeddings": model.ties_embeddings,
        "rope_parameters": rope_parameters(model),
        "rope_theta": model.rope_theta,
        "initializer_range": model.init_std,
        "dtype": model.precision.value,
        "use_cache": True,
    }
    if model.experts is not None:
        for ours, theirs in _EXPERT_SIZES.items():
            found[theirs] = getattr(model.experts, ours)
        found["norm_topk_prob"] = model.experts.normalizes_gates
        found["decoder_sparse_step"] = 1
        found["mlp_only_layers"] = list(model.experts.dense_layers)
    return found


def read_config(folder: Path) -> dict[str, Json]:
    """``config.json`` of a Hugging Face folder; raises ModelError when there is none."""
    path = folder / "config.json"
    if not path.is_file():
        raise ModelError(f"{path} is missing; {folder} is no folder of a Hugging Face model")
    return json.loads(path.read_text(encoding="utf-8"))


def geometry(config: dict[str, Json], where: str) -> dict[str, Json]:
    """The ``model`` section that a ``config.json`` describes: every key that is no choice.

    Raises ModelError naming the family or setting that is not supported, or that is missing.
    """
    family = _family(config, where)
    form = FORMS[family]
    _refuse_unsupported(config, form, where)
    missing = [name for name in _SIZES.values() if config.get(name) is None]
    if missing:
        raise ModelError(f"{where}: {missing[0]} is missing; the geometry cannot be read")
    found: dict[str, Json] = {"family": family.value}
    found |= {ours: config[theirs] for ours, theirs in _SIZES.items()}
    found["head_dim"] = config.get("head_dim") or form.head_dim or _share(config)
    found["ties_embeddings"] = config.get("tie_word_embeddings", False)
    found |= read_rope(config, where)
    if form.has_experts:
        found["experts"] = _experts(config, where)
    return found


def check_geometry(model: ModelOptions, config: dict[str, Json], where: str) -> None:
    """Raises ModelError listing where the ``model`` section differs from a ``config.json``.

    The section may state a shorter context than the configuration.
    """
    theirs = ModelOptions.model_validate(geometry(config, where), strict=False)
    names = [name for name in ModelOptions.model_fields if name not in _CHOSEN]
    wrong = [
        f"model.{name} = {getattr(model, name)}, the configuration has {getattr(theirs, name)}"
        for name in names
        if getattr(model, name) != getattr(theirs, name)
        and not (
            name == "max_context_tokens" and model.max_context_tokens < theirs.max_context_tokens
        )
    ]
    if wrong:
        raise ModelError(
            f"{where}: another model than the spec's: {'; '.join(wrong)}; write the section with "
            "`e3mega geometry`, or name the folder that belongs to it"
        )


def _family(config: dict[str, Json], where: str) -> Family:
    kind = config.get("model_type")
    for family, form in FORMS.items():
        if form.model_type == kind:
            return family
    supported = ", ".join(form.model_type for form in FORMS.values())
    raise ModelError(f"{where}: model_type = {kind} is not supported; need one of {supported}")


def _refuse_unsupported(config: dict[str, Json], form: FamilyForm, where: str) -> None:
    settings = _SETTINGS | form.settings
    for name, needed in settings.items():
        if name in config and config[name] != needed:
            raise ModelError(
                f"{where}: {name} = {config[name]} is not supported for {form.model_type}; "
                f"need {json.dumps(needed)}"
            )
    kinds = config.get("layer_types") or []
    if isinstance(kinds, list) and any(kind != "full_attention" for kind in kinds):
        raise ModelError(f"{where}: layer_types other than full_attention are not supported")
    known = {*_SIZES.values(), *settings, *_READ_ELSEWHERE, *_PASSED_OVER, *form.passed_over}
    known |= _EXPERT_KEYS if form.has_experts else set()
    for name, value in config.items():
        if name not in known and value is not None:
            raise ModelError(
                f"{where}: the setting {name} = {json.dumps(value)} is not supported for "
                f"{form.model_type}"
            )


def _share(config: dict[str, Json]) -> int:
    width, heads = config["hidden_size"], config["num_attention_heads"]
    assert isinstance(width, int), f"hidden_size = {width!r} is no number"
    assert isinstance(heads, int), f"num_attention_heads = {heads!r} is no number"
    return width // heads


def _experts(config: dict[str, Json], where: str) -> dict[str, Json]:
    config = {"num_experts": config.get(_NUM_EXPERTS_IN_5), **config}
    missing = [name for name in _EXPERT_SIZES.values() if config.get(name) is None]
    if missing:
        raise ModelError(f"{where}: {missing[0]} is missing; the experts cannot be read")
    step, num_layers = config.get("decoder_sparse_step", 1), config["num_hidden_layers"]
    dense = config.get("mlp_only_layers") or []
    assert isinstance(step, int), f"{where}: decoder_sparse_step is no number"
    assert isinstance(num_layers, int), f"{where}: num_hidden_layers is no number"
    assert isinstance(dense, list), f"{where}: mlp_only_layers is no list"
    found: dict[str, Json] = {ours: config[theirs] for ours, theirs in _EXPERT_SIZES.items()}
    found["normalizes_gates"] = config.get("norm_topk_prob", False)
    # Every step-th layer has experts, unless it is listed as dense.
    layers = [layer for layer in range(num_layers) if layer in dense or (layer + 1) % step]
    found["dense_layers"] = list[Json](layers)
    return found
