"""The learner's weights as a Hugging Face folder that transformers and vLLM load."""

import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors.torch import save_file

from e3mega.plan.paths import unfinished
from e3mega.plan.planfile import Plan

WEIGHTS_FILE = "model.safetensors"


def export_hf(
    source: Iterable[tuple[str, torch.Tensor | None]],
    plan: Plan,
    model_dir: Path,
    folder: Path,
    *,
    version: int,
    is_main: bool,
) -> None:
    """Write the folder in one rename; config and tokenizer come from ``model_dir``.

    A collective of all ranks through the source; world rank 0 writes. A folder of an earlier
    attempt is replaced.
    """
    tensors = {name: tensor for name, tensor in source if tensor is not None}
    if not is_main:
        return
    partial = unfinished(folder)
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(model_dir, partial)
    weights = {name: tensor.detach().to("cpu").contiguous() for name, tensor in tensors.items()}
    save_file(weights, partial / WEIGHTS_FILE, metadata={"format": "pt"})
    config = json.loads((partial / "config.json").read_text())
    generation = {
        "do_sample": True,
        "temperature": plan.stages[-1].generation.temperature,
        "eos_token_id": config.get("eos_token_id"),
    }
    (partial / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n")
    (partial / "README.md").write_text(model_card(plan, version))
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(partial, folder)


def model_card(plan: Plan, version: int) -> str:
    """What the folder holds and where it comes from."""
    stages = "\n".join(f"* `{stage.name}`: {stage.fingerprint}" for stage in plan.stages)
    return f"""---
library_name: transformers
tags: [e3mega, reinforcement-learning]
---
# {plan.name}

Trained with e3mega {plan.e3mega_version}: {version} optimizer steps, seed {plan.seed}.

Run fingerprint: `{plan.run_fingerprint}`. Stages, in order, with their fingerprints:

{stages}
"""
