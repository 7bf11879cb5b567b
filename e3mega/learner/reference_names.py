"""Which reference weights a KL term compares with at a step, and which a run still needs."""

from collections.abc import Iterable

from e3mega.checkpoint.manifest import Manifest
from e3mega.objective.kl import KlOptions, MovingReference, StartReference
from e3mega.plan.planfile import Plan

START = "start"
"""Name of the run's first weights."""


def name_at(kl: KlOptions, stage: str, stage_step: int) -> str:
    """The reference of a stage's round that starts at a step: where it was taken or moved last."""
    if isinstance(kl.reference, StartReference):
        return START
    if isinstance(kl.reference, MovingReference):
        return taken_at(stage, stage_step - stage_step % kl.reference.every_steps)
    return taken_at(stage, 0)


def taken_at(stage: str, stage_step: int) -> str:
    """Of the reference that was taken, or moved, at a step of a stage."""
    return f"{stage}_{stage_step:06d}"


def names_needed(plan: Plan, kept: Iterable[Manifest]) -> set[str]:
    """References from which a run can go on at each of the kept checkpoints.

    Where a moving one is due at the checkpoint, it moves from the one before.
    """
    kls = {stage.name: stage.loss.kl for stage in plan.stages}
    needed: set[str] = set()
    for manifest in kept:
        steps = {stage.name: stage.num_steps for stage in manifest.lineage.stages}
        kl, taken = kls.get(manifest.stage), steps.get(manifest.stage, 0)
        if kl is not None and taken:
            needed |= {name_at(kl, manifest.stage, step) for step in (taken - 1, taken)}
    return needed
