"""Hugging Face folders that transformers and vLLM load: weights, config, tokenizer, model card."""

import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from e3mega.checkpoint.manifest import Lineage
from e3mega.checkpoint.safetensors_file import SafetensorsWriter, TensorFacts
from e3mega.families.geometry import ModelOptions
from e3mega.families.hf_config import hf_config
from e3mega.families.registry import weights
from e3mega.mcore.config import DTYPES
from e3mega.plan.paths import unfinished

CONFIG = "config.json"
GENERATION = "generation_config.json"
_WEIGHT_SUFFIXES = (".safetensors", ".safetensors.index.json", ".bin", ".pt", ".pth", ".gguf")


def tensor_facts(model: ModelOptions) -> list[TensorFacts]:
    """The tensors of the model's Hugging Face folder, in their order."""
    dtype = DTYPES[model.precision]
    return [
        TensorFacts(tensor.name, dtype, tensor.shape)
        for weight in weights(model)
        for tensor in weight.hf
    ]


def write_hf_folder(
    tensors: Iterable[tuple[str, torch.Tensor]],
    folder: Path,
    *,
    model: ModelOptions,
    lineage: Lineage,
    description: Path | None,
) -> bool:
    """Write the folder in one rename; returns whether there is a tokenizer in it.

    ``tensors`` come in the order of ``tensor_facts``, and none is kept. ``description`` is a folder
    with config and tokenizer; without one the config is the model's own. A trained model is said to
    be sampled at its last stage's temperature; of one that is only converted, what the description
    says of sampling is kept. A folder of an earlier attempt is replaced.
    """
    partial = unfinished(folder)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    if description is not None:
        copy_description(description, partial)
    writer = SafetensorsWriter(partial, tensor_facts(model))
    for name, value in tensors:
        writer.add(name, value)
    writer.close()
    config_file = partial / CONFIG
    if not config_file.exists():
        config_file.write_text(json.dumps(hf_config(model), indent=2) + "\n")
    config = json.loads(config_file.read_text())
    temperatures = [stage.temperature for stage in lineage.stages]
    _write_generation(partial / GENERATION, config, temperatures[-1] if temperatures else None)
    (partial / "README.md").write_text(model_card(lineage))
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(partial, folder)
    return has_tokenizer(folder)


def _write_generation(path: Path, config: dict[str, Any], temperature: float | None) -> None:
    """How the model is sampled, and the tokens that end an answer: a chat model lists more of them
    in the file that is there than in its config."""
    stated: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    if stated and temperature is None:
        return
    tokens = {name: token for name, token in stated.items() if name.endswith("_token_id")}
    found = {
        "do_sample": True,
        "temperature": 1.0 if temperature is None else temperature,
        "eos_token_id": config.get("eos_token_id"),
        **tokens,
    }
    path.write_text(json.dumps(found, indent=2) + "\n")


def copy_description(source: Path, target: Path) -> None:
    """Copy what describes a model and its tokens: every file of a folder but weights."""
    for path in sorted(source.iterdir()):
        is_weight = path.name.endswith(_WEIGHT_SUFFIXES)
        if path.is_file() and not is_weight and not path.name.startswith("."):
            shutil.copyfile(path, target / path.name)


def has_tokenizer(folder: Path) -> bool:
    """Whether a folder holds the files of a tokenizer."""
    return any(folder.glob("tokenizer*")) or (folder / "vocab.json").exists()


def model_card(lineage: Lineage) -> str:
    """What the folder holds and where it comes from."""
    num_steps = sum(stage.num_steps for stage in lineage.stages)
    what = (
        f"Trained with e3mega {lineage.e3mega_version}: {num_steps} optimizer steps, seed "
        f"{lineage.seed}."
        if lineage.stages
        else f"Converted by e3mega {lineage.e3mega_version}, which has not trained it."
    )
    stages = "\n".join(
        f"| {stage.name} | {stage.num_steps} | {stage.temperature} | `{stage.fingerprint}` | "
        f"`{json.dumps(stage.data, sort_keys=True)}` |"
        for stage in lineage.stages
    )
    table = f"""
Stages, in order:

| stage | optimizer steps | temperature | fingerprint | data |
|---|---|---|---|---|
{stages}
"""
    run = f"Run fingerprint: `{lineage.run_fingerprint}`.\n" if lineage.run_fingerprint else ""
    return f"""---
library_name: transformers
tags: [e3mega, reinforcement-learning]
---
# {lineage.name}

{what}

{run}{table if lineage.stages else ""}"""
