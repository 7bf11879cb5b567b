"""What the ranks of a forked grid do in the tests of checkpoints; see ``tests.warm_parent``."""

import gc
import hashlib
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from e3mega.checkpoint.manifest import verify
from e3mega.checkpoint.sharded import load_checkpoint, load_checkpoint_weights
from e3mega.checkpoint.writer import CheckpointWriter
from e3mega.errors import CheckpointError
from e3mega.learner.lineage import lineage
from e3mega.learner.step import train_step
from e3mega.mcore.build import LearnerModel, build_learner
from e3mega.mcore.moments import distributed_optimizers
from e3mega.mcore.parallel import RankGrid
from e3mega.plan.paths import RunPaths
from e3mega.plan.planfile import Plan
from e3mega.weights.source import MegatronWeightSource
from tests.checkpoint_cases import manifest_of
from tests.integration.grid_jobs import start
from tests.integration.optimizer_jobs import SUPERVISED, batch_of

NUM_BEFORE, NUM_AFTER = 4, 5


def begin(
    learner: LearnerModel, plan: Plan, folder: str, *, version: int, is_asynchronous: bool
) -> CheckpointWriter:
    """Start on the checkpoint of a version in a run folder."""
    writer = CheckpointWriter(learner, RunPaths(Path(folder)))
    manifest = replace(manifest_of(version), lineage=lineage(plan, {"easy": version}))
    manifest = replace(manifest, layout=learner.grid.layout)
    writer.begin(manifest, loop_state="{}", is_asynchronous=is_asynchronous)
    return writer


def train(learner: LearnerModel, plan: Plan, steps: range) -> list[dict[str, float]]:
    """Supervised steps on recorded batches."""
    return [train_step(learner, batch_of(step), plan.stages[0], stage_step=step) for step in steps]


def state(learner: LearnerModel) -> dict[str, Any]:
    """Digests of the whole model's tensors on rank 0, and this rank's counts of Adam's steps."""
    digests = {
        name: hashlib.sha256(tensor.contiguous().numpy().tobytes()).hexdigest()
        for name, tensor in MegatronWeightSource(learner)
        if tensor is not None
    }
    steps = {
        float(state["step"])
        for optimizer in distributed_optimizers(learner.optimizer)
        for state in optimizer.optimizer.state.values()
    }
    return {"tensors": digests, "steps": steps}


def save_and_go_on(
    grid: RankGrid, *, folder: str, is_asynchronous: bool, family: str = ""
) -> dict[str, Any]:
    """Train, save, train on; with an asynchronous save, the steps overlap it."""
    plan, learner = start(grid, SUPERVISED, family=family)
    train(learner, plan, range(NUM_BEFORE))
    found = state(learner)
    begun = time.perf_counter()
    writer = begin(learner, plan, folder, version=NUM_BEFORE, is_asynchronous=is_asynchronous)
    blocked_s = time.perf_counter() - begun
    was_complete = (RunPaths(Path(folder)).checkpoint(NUM_BEFORE) / "manifest.json").exists()
    after = train(learner, plan, range(NUM_BEFORE, NUM_BEFORE + NUM_AFTER))
    written = writer.finish()
    assert written is not None
    assert not writer.is_pending
    return {
        **found,
        "after": after,
        "was_complete": was_complete,
        "blocked_s": blocked_s,
        "passed_over": gc.get_freeze_count(),
        "seconds": written.seconds,
    }


def load_and_go_on(
    grid: RankGrid, *, folder: str, saved_again: str = "", family: str = ""
) -> dict[str, Any]:
    """Load on this grid, save again if asked, and train on."""
    plan, learner = start(grid, SUPERVISED, family=family)
    checkpoint = RunPaths(Path(folder)).checkpoint(NUM_BEFORE)
    manifest = load_checkpoint(learner, checkpoint, plan)
    assert manifest.version == NUM_BEFORE
    found = state(learner)
    if saved_again:
        begin(learner, plan, saved_again, version=NUM_BEFORE, is_asynchronous=False).finish()
    after = train(learner, plan, range(NUM_BEFORE, NUM_BEFORE + NUM_AFTER))
    return {**found, "after": after}


def load_weights_only(grid: RankGrid, *, folder: str) -> dict[str, Any]:
    """Load the weights without the optimizer into a new learner."""
    plan, _ = start(grid, SUPERVISED)
    learner = build_learner(plan, grid)
    load_checkpoint_weights(learner, RunPaths(Path(folder)).checkpoint(NUM_BEFORE))
    return state(learner)


def load_other_run(grid: RankGrid, *, folder: str) -> str:
    """The message for a checkpoint of another run."""
    plan, learner = start(grid, SUPERVISED)
    other = replace(plan, run_fingerprint="1" * 64)
    try:
        load_checkpoint(learner, RunPaths(Path(folder)).checkpoint(NUM_BEFORE), other)
    except CheckpointError as error:
        return str(error)
    return ""


def killed_while_saving(grid: RankGrid, *, folder: str) -> bool:
    """Save whole at one version, start at the next; whether the second has a manifest."""
    plan, learner = start(grid, SUPERVISED)
    begin(learner, plan, folder, version=1, is_asynchronous=False).finish()
    begin(learner, plan, folder, version=2, is_asynchronous=True)
    paths = RunPaths(Path(folder))
    verify(paths.checkpoint(1))
    return (paths.checkpoint(2) / "manifest.json").exists()


def cannot_write(grid: RankGrid, *, folder: str, is_asynchronous: bool) -> str:
    """The message of a save whose files cannot be written."""
    plan, learner = start(grid, SUPERVISED)
    sharded = RunPaths.sharded(RunPaths(Path(folder)).checkpoint(1))
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
        writer = begin(learner, plan, folder, version=1, is_asynchronous=is_asynchronous)
        writer.finish()
    except CheckpointError as error:
        assert not (sharded.parent / "manifest.json").exists()
        return str(error)
    return ""


def children(grid: RankGrid, *, folder: str) -> list[str]:
    """Names of the processes that a rank has left after a whole save."""
    import psutil

    plan, learner = start(grid, SUPERVISED)
    begin(learner, plan, folder, version=1, is_asynchronous=True).finish()
    torch.zeros(1)
    return [child.name() for child in psutil.Process(os.getpid()).children(recursive=True)]
