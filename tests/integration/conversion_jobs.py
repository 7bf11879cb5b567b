"""What the ranks of a forked grid do in the tests of conversions; see ``tests.warm_parent``."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from e3mega.checkpoint.convert import model_of
from e3mega.checkpoint.sharded import load_checkpoint_weights
from e3mega.checkpoint.writer import CheckpointWriter
from e3mega.learner.logits import megatron_logits
from e3mega.mcore.build import build_model
from e3mega.mcore.parallel import RankGrid
from e3mega.plan.paths import RunPaths
from e3mega.spec.schema.optimizer import OptimizerOptions
from tests.checkpoint_cases import manifest_of


def save_again(grid: RankGrid, *, hf: str, checkpoint: str, folder: str) -> list[str]:
    """Load a converted checkpoint into Megatron on this grid, and save it as Megatron does."""
    model = model_of(Path(hf))
    learner = build_model(model, OptimizerOptions(), grid)
    load_checkpoint_weights(learner, Path(checkpoint))
    writer = CheckpointWriter(learner, RunPaths(Path(folder)))
    manifest = replace(manifest_of(1), model=model, layout=grid.layout)
    writer.begin(manifest, loop_state="{}", is_asynchronous=False)
    writer.finish()
    return sorted(learner.named_parameters())


def logits(grid: RankGrid, *, hf: str, checkpoint: str, prompts: list[list[int]]) -> Any:
    """Logits of one rank on a converted checkpoint."""
    learner = build_model(model_of(Path(hf)), OptimizerOptions(), grid)
    load_checkpoint_weights(learner, Path(checkpoint))
    return megatron_logits(learner, torch.tensor(prompts)).numpy()
