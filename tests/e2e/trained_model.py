"""The recorded base of the Countdown runs: it tells hits from misses and solves a quarter."""

import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from tests.data.recorded_runs import BASE

WEIGHTS = "model.safetensors"


def write_trained_model(folder: Path) -> Path:
    """The model's folder in float32; the recording holds it in bfloat16."""
    shutil.copytree(BASE, folder)
    kept = load_file(BASE / WEIGHTS)
    weights = {name: value.to(torch.float32) for name, value in kept.items()}
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    return folder
