"""The KL term's reference policy: a host copy of weights that the learner swaps in."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.distributed as dist

from e3mega.checkpoint.manifest import Manifest, verify
from e3mega.checkpoint.sharded import fill_weights
from e3mega.checkpoint.writer import CheckpointWriter
from e3mega.errors import CheckpointError, JobError
from e3mega.learner.lineage import lineage
from e3mega.learner.reference_names import START, name_at, names_needed
from e3mega.mcore.build import LearnerModel
from e3mega.objective.kl import KlOptions, MovingReference, StartReference
from e3mega.plan.paths import MANIFEST, RunPaths
from e3mega.plan.planfile import Plan, StagePlan

Weights = dict[str, torch.Tensor]
"""This rank's parameters by their whole-model names, on the host."""


@dataclass(slots=True)
class References:
    """The references of a run, and the copy of one that is in memory; every rank has one.

    Each reference is also a checkpoint of weights in the run folder, so that a resumed run
    compares with the same ones, on whatever grid. All methods but ``remove_unneeded`` are
    collectives.
    """

    learner: LearnerModel
    plan: Plan
    paths: RunPaths
    steps: dict[str, int]
    """Optimizer steps taken in each stage; whoever trains counts them on."""
    is_replay: bool = False
    """Whether the run has ended and is looked at: nothing is written then."""
    places: dict[str, Path] = field(default_factory=dict[str, Path])
    """Checkpoints that are read for a reference that the run did not write, by its name."""
    name: str = ""
    """Of the copy that is held; empty for none."""
    weights: Weights = field(default_factory=Weights)

    @property
    def lacks_start(self) -> bool:
        """Whether a stage compares with the run's first weights and they are not kept; no
        collective."""
        every_kl = [stage.loss.kl for stage in self.plan.stages]
        is_needed = any(
            kl is not None and isinstance(kl.reference, StartReference) for kl in every_kl
        )
        return is_needed and not (self.paths.reference(START) / MANIFEST).exists()

    def keep_start(self) -> None:
        """Write the learner's weights, which are the run's first."""
        self._write(START)

    def prepare(self, stage: StagePlan, *, stage_step: int) -> None:
        """Bring the stage's reference into memory before a round that starts at ``stage_step``.

        A reference of the stage is taken at its first step; a moving one moves when a multiple of
        its steps is reached. Raises JobError when the copy of a resumed run is not there.
        """
        kl = stage.loss.kl
        assert kl is not None, "only a KL term has a reference"
        name = name_at(kl, stage.name, stage_step)
        if self.name == name:
            return
        made = self._made(kl, stage, stage_step)
        self.weights = self._read(name) if made is None else made
        self.name = name
        if made is not None and not self.is_replay:
            with self.swapped_in():
                self._write(name)

    def _made(self, kl: KlOptions, stage: StagePlan, stage_step: int) -> Weights | None:
        """The reference if it is taken or moves at this step; None if it was written before."""
        rule = kl.reference
        if isinstance(rule, StartReference):
            return None
        if stage_step == 0:
            return _copy(self.learner)
        if self.is_replay or not isinstance(rule, MovingReference):
            return None
        if stage_step % rule.every_steps:
            return None
        old, new = self._read(name_at(kl, stage.name, stage_step - 1)), _copy(self.learner)
        return {name: old[name].lerp(value, rule.mix) for name, value in new.items()}

    @contextmanager
    def swapped_in(self) -> Iterator[None]:
        """Compute with the reference's weights inside the block; the own ones return bit for
        bit."""
        own = _copy(self.learner)
        _fill(self.learner, self.weights)
        try:
            yield
        finally:
            _fill(self.learner, own)

    def remove_unneeded(self, kept: list[Manifest]) -> None:
        """Remove the references that no kept checkpoint goes on from; one rank calls it.

        No checkpoint is being written.
        """
        needed = names_needed(self.plan, kept) | {START, self.name}
        found = self.paths.references.iterdir() if self.paths.references.exists() else ()
        for folder in found:
            if folder.name not in needed:
                shutil.rmtree(folder)

    def _write(self, name: str) -> None:
        """The learner's present weights."""
        manifest = Manifest(
            version=sum(self.steps.values()),
            stage=next(reversed(self.steps), ""),
            model=self.plan.model,
            layout=self.learner.grid.layout,
            lineage=lineage(self.plan, self.steps),
            has_optimizer=False,
            score=None,
            files={},
        )
        # The session's own writer may be busy with a checkpoint.
        writer = CheckpointWriter(self.learner, self.paths)
        writer.write_weights(manifest, self.paths.reference(name))

    def _read(self, name: str) -> Weights:
        folder, grid = self.paths.reference(name), self.learner.grid
        if not (folder / MANIFEST).exists():
            folder = self.places.get(name, folder)
        problem = [""]
        if grid.is_main:
            try:
                verify(folder)
            except CheckpointError as error:
                problem = [str(error)]
        dist.broadcast_object_list(problem, src=0, group=grid.control)
        if problem[0]:
            raise JobError(
                f"learner: the reference weights of the KL term cannot be read: {problem[0]}; "
                "they are written when the stage begins or its reference moves; start the stage "
                "again from the checkpoint before it, or replay a loss whose reference was written"
            )
        own = _copy(self.learner)
        try:
            fill_weights(self.learner, folder)
            return _copy(self.learner)
        finally:
            _fill(self.learner, own)


def _copy(learner: LearnerModel) -> Weights:
    return {
        name: parameter.detach().cpu().clone()
        for name, parameter in learner.named_parameters().items()
    }


def _fill(learner: LearnerModel, weights: Weights) -> None:
    with torch.no_grad():
        for name, parameter in learner.named_parameters().items():
            parameter.copy_(weights[name])
