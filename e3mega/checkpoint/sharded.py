"""Checkpoints in Megatron-Core's distributed format: weights, optimizer state, the loop's state."""

import multiprocessing
import shutil
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from megatron.core import dist_checkpointing
from megatron.core.dist_checkpointing.strategies import filesystem_async
from megatron.core.optimizer import ChainedOptimizer
from megatron.core.optimizer.distrib_optimizer import DistributedOptimizer

from e3mega.checkpoint.manifest import Manifest, file_facts, verify, write_manifest
from e3mega.errors import CheckpointError
from e3mega.mcore.build import LearnerModel
from e3mega.plan.paths import RunPaths
from e3mega.plan.planfile import Plan
from e3mega.rollout.whole_file import write_whole

_WEIGHTS = "sharded"
"""Folder of Megatron's files inside a checkpoint."""
_METADATA = {"distrib_optim_sharding_type": "fully_reshardable"}
_MOMENTS = ("exp_avg", "exp_avg_sq")


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
    _fill_optimizer_state(learner)
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
    _fill_optimizer_state(learner)
    # Megatron declares a pair, which it returns only when it is asked for missing keys too.
    loaded: Any = dist_checkpointing.load(_state(learner, is_loading=True), str(folder / _WEIGHTS))
    learner.chunks[0].module.load_state_dict(loaded["model"], strict=True)
    _pass_over_steps(learner)
    learner.optimizer.load_state_dict(loaded["optimizer"])
    _give_own_steps(learner)
    return manifest.version


def _state(learner: LearnerModel, *, is_loading: bool) -> dict[str, Any]:
    network: Any = learner.chunks[0].module
    model = network.sharded_state_dict(metadata=_METADATA)
    optimizer = learner.optimizer.sharded_state_dict(
        model, is_loading=is_loading, metadata=_METADATA
    )
    return {"model": model, "optimizer": optimizer}


def _distributed_optimizers(learner: LearnerModel) -> list[DistributedOptimizer]:
    optimizer = learner.optimizer
    chained = optimizer.chained_optimizers if isinstance(optimizer, ChainedOptimizer) else []
    return [each for each in chained or [optimizer] if isinstance(each, DistributedOptimizer)]


def _inner_optimizers(learner: LearnerModel) -> list[torch.optim.Optimizer]:
    return [each.optimizer for each in _distributed_optimizers(learner)]


def _pass_over_steps(learner: LearnerModel) -> None:
    """Let the load of moments pass over Adam's ``step``, which comes with the parameter groups.

    Without Transformer Engine the state of torch's Adam holds ``step`` as a tensor; Megatron-Core
    0.19 drops it from what it loads and then asks for it. None says that there is nothing to copy.
    """
    optimizer: Any
    for optimizer in _distributed_optimizers(learner):
        copy = DistributedOptimizer._set_main_param_and_optimizer_states.__get__(optimizer)
        optimizer._set_main_param_and_optimizer_states = lambda parameter, tensors, copy=copy: copy(
            parameter, {"step": None, **tensors}
        )


def _fill_optimizer_state(learner: LearnerModel) -> None:
    """Give every parameter its Adam state; Megatron asserts on an empty one without TE."""
    for optimizer in _inner_optimizers(learner):
        for parameter in [each for group in optimizer.param_groups for each in group["params"]]:
            state = optimizer.state[parameter]
            if not state:
                state["step"] = torch.tensor(0.0)
                for moment in _MOMENTS:
                    state[moment] = torch.zeros_like(parameter)


def _give_own_steps(learner: LearnerModel) -> None:
    """Give every parameter a ``step`` of its own.

    Megatron-Core 0.19 loads one tensor into all of them; Adam then counts one step per parameter,
    and its bias correction is wrong from the first continued step on.
    """
    for optimizer in _inner_optimizers(learner):
        for state in optimizer.state.values():
            state["step"] = state["step"].detach().clone()


def _use_forked_queue() -> None:
    """Have Megatron's writer make its result queue by fork.

    It spawns a manager by default, which imports the main module again: 15 s on two cores.
    """
    if filesystem_async._results_queue is None:
        filesystem_async._results_queue = multiprocessing.get_context("fork").Manager().Queue()
