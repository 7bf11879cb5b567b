"""Writes the ``model`` section of a spec that a Hugging Face configuration describes."""

import yaml

from e3mega.families.geometry import ModelOptions, Precision
from e3mega.families.hf_config import geometry
from e3mega.metrics import Json


def model_fragment(config: dict[str, Json], where: str) -> str:
    """The YAML of a fragment: what differs from the schema's defaults, and the precision.

    Raises ModelError naming what is not supported.
    """
    stated = geometry(config, where)
    precision = config.get("dtype", config.get("torch_dtype"))
    if precision == Precision.BFLOAT16.value:
        stated["precision"] = precision
    model = ModelOptions.model_validate(stated, strict=False)
    names = config.get("architectures") or [config.get("model_type")]
    name = names[0] if isinstance(names, list) else names
    changed = model.model_dump(mode="json", exclude_defaults=True)
    section = yaml.safe_dump({"model": changed}, sort_keys=False)
    return f"# Geometry of a {name}, as its config.json states it (e3mega geometry).\n{section}"
