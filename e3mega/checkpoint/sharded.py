"""The learner's state in Megatron-Core's distributed format: what is saved, and its loading."""

from pathlib import Path
from typing import Any

import torch.distributed as dist
from megatron.core import dist_checkpointing
from megatron.core.dist_checkpointing.core import CheckpointingException
from megatron.core.dist_checkpointing.mapping import ShardedObject
from torch.distributed.checkpoint.api import CheckpointException

from e3mega.checkpoint import optimizer_state, safe_reading
from e3mega.checkpoint.manifest import Manifest, read_manifest
from e3mega.errors import CheckpointError
from e3mega.mcore import moments
from e3mega.mcore.build import LearnerModel
from e3mega.plan.paths import RunPaths
from e3mega.plan.planfile import Plan

_METADATA = {**optimizer_state.METADATA, "non_homogeneous_layers": True}
"""Every layer has names of its own, which are those of the mapping table."""

_EXTRA = "_extra_state"
"""Megatron's name of what a layer keeps beside its tensors."""


def load_checkpoint(learner: LearnerModel, folder: Path, plan: Plan) -> Manifest:
    """Fill weights and optimizer from a complete and verified checkpoint; returns its manifest.

    A collective of all ranks; the grid may be another than the one that saved. Training goes on
    bit for bit as if it had not stopped when the grid is the same. Raises CheckpointError when
    the checkpoint belongs to another run.
    """
    manifest = read_manifest(folder)
    found = manifest.lineage.run_fingerprint
    if found != plan.run_fingerprint:
        raise CheckpointError(
            f"{folder}: made by a run with fingerprint {found[:12] or 'none'}, this run has "
            f"{plan.run_fingerprint[:12]}; resume the run that made it, or start a new one"
        )
    moments.fill(learner.optimizer)
    loaded = _load(state_to_load(learner, with_optimizer=True), folder)
    _fill_model(learner, loaded)
    moments.pass_over_steps(learner.optimizer)
    optimizer_state.load(learner.optimizer, loaded["optimizer"])
    moments.give_own_steps(learner.optimizer)
    return manifest


def load_checkpoint_weights(learner: LearnerModel, folder: Path) -> None:
    """Fill the weights alone, and the optimizer's main copy of them, from any checkpoint.

    A collective of all ranks. Raises CheckpointError when the model is another.
    """
    fill_weights(learner, folder)
    learner.optimizer.reload_model_params()


def fill_weights(learner: LearnerModel, folder: Path) -> None:
    """Fill the model's weights from any checkpoint, and nothing else.

    A collective of all ranks. Raises CheckpointError when the model is another.
    """
    _fill_model(learner, _load(_weights(learner, is_loading=True), folder))


def state_to_save(learner: LearnerModel) -> dict[str, Any]:
    """Megatron's description of weights and optimizer, with their values."""
    moments.fill(learner.optimizer)
    return _state(learner, is_loading=False, with_optimizer=True)


def weights_to_save(learner: LearnerModel) -> dict[str, Any]:
    """Megatron's description of the weights alone, with their values."""
    return _weights(learner, is_loading=False)


def state_to_load(learner: LearnerModel, *, with_optimizer: bool) -> dict[str, Any]:
    """Megatron's description of what a load fills."""
    return _state(learner, is_loading=True, with_optimizer=with_optimizer)


def _weights(learner: LearnerModel, *, is_loading: bool) -> dict[str, Any]:
    state = _state(learner, is_loading=is_loading, with_optimizer=False)
    return {
        part: {key: each for key, each in entries.items() if not isinstance(each, ShardedObject)}
        for part, entries in state.items()
    }


def _state(learner: LearnerModel, *, is_loading: bool, with_optimizer: bool) -> dict[str, Any]:
    model: dict[str, Any] = {}
    for name, network in _networks(learner).items():
        model[name] = network.sharded_state_dict(metadata=_METADATA)
    if not with_optimizer:
        return model
    optimizer = optimizer_state.description(learner.optimizer, model, is_loading=is_loading)
    return {**model, "optimizer": optimizer}


def _networks(learner: LearnerModel) -> dict[str, Any]:
    """The parts of the model on this rank; the names are Megatron's and stand in no file."""
    chunks = learner.chunks
    if len(chunks) == 1:
        return {"model": chunks[0].module}
    return {f"model{number}": chunk.module for number, chunk in enumerate(chunks)}


def _load(state: dict[str, Any], folder: Path) -> dict[str, Any]:
    safe_reading.install()
    try:
        # Megatron declares a pair, which it returns only when it is asked for missing keys too.
        loaded: Any = dist_checkpointing.load(state, str(RunPaths.sharded(folder)))
    except CheckpointException as error:
        # torch gathers what went wrong on each rank; a message of ours is meant for a person.
        for failure in error.failures.values():
            if isinstance(failure[0], CheckpointError):
                raise failure[0] from error
        raise
    except (CheckpointingException, KeyError) as error:
        raise CheckpointError(f"{folder} does not fit this model: {error}") from error
    return loaded


def _fill_model(learner: LearnerModel, loaded: dict[str, Any]) -> None:
    for name, network in _networks(learner).items():
        found = network.load_state_dict(loaded[name], strict=False)
        # Weights alone come without the scaling state of FP8 layers.
        missing = [key for key in found.missing_keys if not key.endswith(_EXTRA)]
        assert not missing and not found.unexpected_keys, f"{missing} {found.unexpected_keys}"
    dist.barrier(group=learner.grid.control)
