"""The KL term's reference policy: a host copy of weights that the learner swaps in."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from e3mega.errors import JobError
from e3mega.mcore.build import LearnerModel
from e3mega.objective.kl import KlOptions, MovingReference, StartReference
from e3mega.plan.paths import RunPaths
from e3mega.plan.planfile import Plan, StagePlan
from e3mega.rollout.whole_file import write_whole

Weights = dict[str, torch.Tensor]
"""This rank's parameters by their whole-model names, on the host."""

_START = "start"


@dataclass(slots=True)
class Reference:
    """Which weights are the reference, and the copy of them that is in memory.

    Every copy is also a file of this rank in the run folder, so that a resumed run compares with
    the same weights. A copy is read on the grid that wrote it.
    """

    name: str = ""
    """Of the copy that is held; empty for none."""
    weights: Weights | None = None


def keep_start(learner: LearnerModel, plan: Plan, paths: RunPaths) -> None:
    """Write the copy of the run's first weights if a stage compares with them."""
    if _compares_with_start(plan):
        _write(_file(learner, paths, _START), _copy(learner))


def lacks_start(learner: LearnerModel, plan: Plan, paths: RunPaths) -> bool:
    """Whether a stage compares with the first weights and this rank has no copy of them."""
    return _compares_with_start(plan) and not _file(learner, paths, _START).exists()


def prepare(
    reference: Reference,
    learner: LearnerModel,
    paths: RunPaths,
    stage: StagePlan,
    *,
    stage_step: int,
) -> None:
    """Bring the stage's reference into memory before a round that starts at ``stage_step``.

    A reference of the stage is taken at its first step; a moving one moves when a multiple of its
    steps is reached. Raises JobError when the copy of a resumed run is not there.
    """
    kl = stage.loss.kl
    assert kl is not None, "only a KL term has a reference"
    name = _name(kl, stage, stage_step)
    if reference.name == name:
        return
    path = _file(learner, paths, name)
    if name != _START and stage_step == 0:
        _write(path, _copy(learner))
    elif isinstance(kl.reference, MovingReference) and stage_step % kl.reference.every_steps == 0:
        before = _name(kl, stage, stage_step - kl.reference.every_steps)
        old, mix = _read(_file(learner, paths, before)), kl.reference.mix
        _write(path, {key: old[key].lerp(new, mix) for key, new in _copy(learner).items()})
    reference.name, reference.weights = name, _read(path)


@contextmanager
def swapped_in(learner: LearnerModel, reference: Reference) -> Iterator[None]:
    """Compute with the reference's weights inside the block; the own ones return bit for bit."""
    assert reference.weights is not None, "prepare has been called"
    own = _copy(learner)
    _fill(learner, reference.weights)
    try:
        yield
    finally:
        _fill(learner, own)


def _compares_with_start(plan: Plan) -> bool:
    every_kl = [stage.loss.kl for stage in plan.stages]
    return any(kl is not None and isinstance(kl.reference, StartReference) for kl in every_kl)


def _name(kl: KlOptions, stage: StagePlan, stage_step: int) -> str:
    match kl.reference:
        case StartReference():
            return _START
        case MovingReference(every_steps=every):
            return f"{stage.name}_{stage_step // every * every:06d}"
        case _:
            return stage.name


def _copy(learner: LearnerModel) -> Weights:
    return {
        name: parameter.detach().cpu().clone()
        for name, parameter in learner.named_parameters().items()
    }


def _fill(learner: LearnerModel, weights: Weights) -> None:
    with torch.no_grad():
        for name, parameter in learner.named_parameters().items():
            parameter.copy_(weights[name])


def _file(learner: LearnerModel, paths: RunPaths, name: str) -> Path:
    return paths.reference(name, learner.grid.process.world_rank)


def _write(path: Path, weights: Weights) -> None:
    write_whole(path, save(weights))


def _read(path: Path) -> Weights:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise JobError(
            f"learner: {path}: the reference weights of the KL term cannot be read: {error}; "
            "they are written at the start of the stage, on the grid that reads them; start the "
            "stage again from the checkpoint before it"
        ) from error
