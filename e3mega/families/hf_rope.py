"""Rotary embeddings between a Hugging Face configuration and the spec's ``model`` section."""

import math

from e3mega.errors import ModelError
from e3mega.families.geometry import ModelOptions
from e3mega.families.rope import LinearRope, Llama3Rope, YarnRope
from e3mega.metrics import Json

_DEFAULT_THETA = 10_000.0
"""transformers' base of the rotary frequencies where a configuration names none."""
_ALWAYS = frozenset({"rope_type", "type", "rope_theta", "partial_rotary_factor"})
_LLAMA3 = ("factor", "low_freq_factor", "high_freq_factor")
_KNOWN = {
    "default": frozenset[str](),
    "linear": frozenset({"factor"}),
    "llama3": frozenset({*_LLAMA3, "original_max_position_embeddings"}),
    "yarn": frozenset(
        {
            *("factor", "original_max_position_embeddings", "beta_fast", "beta_slow"),
            *("attention_factor", "mscale", "mscale_all_dim", "truncate"),
        }
    ),
}


def rope_parameters(model: ModelOptions) -> dict[str, Json]:
    """``rope_parameters`` of the model's ``config.json``."""
    scaling = model.rope_scaling
    found: dict[str, Json] = {"rope_type": "default", "rope_theta": model.rope_theta}
    if scaling is None:
        return found
    found |= {"rope_type": scaling.kind, "factor": scaling.factor}
    if isinstance(scaling, Llama3Rope):
        found["low_freq_factor"] = scaling.low_freq_factor
        found["high_freq_factor"] = scaling.high_freq_factor
    elif isinstance(scaling, YarnRope):
        found |= {"beta_fast": scaling.beta_fast, "beta_slow": scaling.beta_slow}
        found |= {"attention_factor": scaling.attention_factor, "truncate": scaling.truncates}
    if not isinstance(scaling, LinearRope):
        found["original_max_position_embeddings"] = scaling.original_context_tokens
    return found


def read_rope(config: dict[str, Json], where: str) -> dict[str, Json]:
    """``rope_theta`` and ``rope_scaling`` of the ``model`` section.

    Takes the form of transformers 5 (``rope_parameters``) and the older one (``rope_theta`` beside
    ``rope_scaling``). Raises ModelError naming a kind or setting that is not supported.
    """
    stated = config.get("rope_parameters") or config.get("rope_scaling") or {}
    assert isinstance(stated, dict), f"{where}: rope_parameters is no mapping"
    theta = stated.get("rope_theta", config.get("rope_theta", _DEFAULT_THETA))
    kind = str(stated.get("rope_type", stated.get("type", "default")))
    if kind not in _KNOWN:
        raise ModelError(
            f"{where}: rope_type = {kind} is not supported; need one of {', '.join(_KNOWN)}"
        )
    unknown = sorted(set(stated) - _ALWAYS - _KNOWN[kind])
    if unknown or stated.get("partial_rotary_factor", 1.0) != 1.0:
        name = unknown[0] if unknown else "partial_rotary_factor"
        raise ModelError(
            f"{where}: rope_parameters.{name} = {stated[name]} is not supported for {kind}"
        )
    found: dict[str, Json] = {"rope_theta": _number(theta)}
    if kind != "default":
        context = stated.get("original_max_position_embeddings")
        own_context = context or config["max_position_embeddings"]
        found["rope_scaling"] = _scaling(kind, stated, own_context)
    return found


def _scaling(kind: str, stated: dict[str, Json], own_context: Json) -> dict[str, Json]:
    found: dict[str, Json] = {"kind": kind, "factor": _number(stated["factor"])}
    if kind == "llama3":
        found |= {name: _number(stated[name]) for name in _LLAMA3}
    if kind == "yarn":
        found["attention_factor"] = _attention_factor(stated)
        found["beta_fast"] = _number(stated.get("beta_fast") or 32)
        found["beta_slow"] = _number(stated.get("beta_slow") or 1)
        found["truncates"] = stated.get("truncate", True)
    if kind != "linear":
        found["original_context_tokens"] = own_context
    return found


def _attention_factor(stated: dict[str, Json]) -> float:
    """As transformers derives it: 0.1 m ln(factor) + 1, or the quotient of two of them."""
    if stated.get("attention_factor") is not None:
        return _number(stated["attention_factor"])
    factor = _number(stated["factor"])

    def scale(multiplier: float) -> float:
        return 0.1 * multiplier * math.log(factor) + 1.0 if factor > 1 else 1.0

    above, below = stated.get("mscale"), stated.get("mscale_all_dim")
    if above and below:
        return scale(_number(above)) / scale(_number(below))
    return scale(1.0)


def _number(value: Json) -> float:
    assert isinstance(value, int | float), f"{value!r} is no number"
    return float(value)
