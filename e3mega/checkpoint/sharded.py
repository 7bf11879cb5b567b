"""Checkpoints in Megatron-Core's distributed format: weights, optimizer state, the loop's state."""

import multiprocessing
import shutil
from pathlib import Path
from typing import Any

import torch.distributed as dist
from megatron.core import dist_checkpointing
from megatron.core.dist_checkpointing.strategies import filesystem_async

from e3mega.checkpoint.manifest import Manifest, file_facts, verify, write_manifest
from e3mega.errors import CheckpointError
from e3mega.mcore import moments
from e3mega.mcore.build import LearnerModel
from e3mega.plan.paths import RunPaths
from e3mega.plan.planfile import Plan
from e3mega.rollout.whole_file import write_whole

_WEIGHTS = "sharded"
"""Folder of Megatron's files inside a checkpoint."""
_METADATA = {"distrib_optim_sharding_type": "fully_reshardable"}


def save_checkpoint(
    learner: LearnerModel, paths: RunPaths, plan: Plan, *, version: int, stage: str, loop_state: str
) -> None:
    """Write the checkpoint of ``version``; complete, with its manifest, when this returns.

    A collective of all ranks. A leftover of a killed save is removed first. A kill at any moment
    leaves the checkpoints before it as they were.
    """
    folder = paths.checkpoint(version)
    if learner.grid.is_main:
        shutil.rmtree(folder, ignore_errors=True)
        (folder / _WEIGHTS).mkdir(parents=True)
        write_whole(paths.loop_state(folder), loop_state.encode())
    dist.barrier(group=learner.grid.control)
    _use_forked_queue()
    moments.fill(learner.optimizer)
    dist_checkpointing.save(_state(learner, is_loading=False), str(folder / _WEIGHTS))
    dist.barrier(group=learner.grid.control)
    if learner.grid.is_main:
        layout = plan.layout.learner
        manifest = Manifest(
            version=version,
            stage=stage,
            run_fingerprint=plan.run_fingerprint,
            family=plan.model.family.value,
            tp=layout.tp,
            pp=layout.pp,
            dp=layout.dp,
            files=file_facts(folder),
        )
        write_manifest(folder, manifest)
    dist.barrier(group=learner.grid.control)


def load_checkpoint(learner: LearnerModel, folder: Path, plan: Plan) -> int:
    """Fill weights and optimizer from a complete checkpoint; returns its version.

    A collective of all ranks; the grid may be another than the one that saved. Training goes on
    bit for bit as if it had not stopped when the grid is the same. Raises CheckpointError when
    the checkpoint belongs to another run.
    """
    manifest = verify(folder)
    if manifest.run_fingerprint != plan.run_fingerprint:
        raise CheckpointError(
            f"{folder}: made by a run with fingerprint {manifest.run_fingerprint[:12]}, this run "
            f"has {plan.run_fingerprint[:12]}; resume the run that made it, or start a new one"
        )
    moments.fill(learner.optimizer)
    # Megatron declares a pair, which it returns only when it is asked for missing keys too.
    loaded: Any = dist_checkpointing.load(_state(learner, is_loading=True), str(folder / _WEIGHTS))
    learner.chunks[0].module.load_state_dict(loaded["model"], strict=True)
    moments.pass_over_steps(learner.optimizer)
    learner.optimizer.load_state_dict(loaded["optimizer"])
    moments.give_own_steps(learner.optimizer)
    return manifest.version


def _state(learner: LearnerModel, *, is_loading: bool) -> dict[str, Any]:
    network: Any = learner.chunks[0].module
    model = network.sharded_state_dict(metadata=_METADATA)
    optimizer = learner.optimizer.sharded_state_dict(
        model, is_loading=is_loading, metadata=_METADATA
    )
    return {"model": model, "optimizer": optimizer}


def _use_forked_queue() -> None:
    """Have Megatron's writer make its result queue by fork.

    It spawns a manager by default, which imports the main module again: 15 s on two cores.
    """
    if filesystem_async._results_queue is None:
        filesystem_async._results_queue = multiprocessing.get_context("fork").Manager().Queue()
