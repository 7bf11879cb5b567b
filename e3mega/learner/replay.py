"""What other losses would do on recorded rollouts and the weights that trained on them.

``python -m e3mega.learner.replay RUN_DIR SEGMENT REQUEST ANSWER`` under torchrun, on the grid of
the segment, whose stages are replayed; REQUEST is JSON, loss options by name and stage; ANSWER
gets ``ReplayedStep`` records.
"""

import json
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter

from e3mega.checkpoint.manifest import read_manifest
from e3mega.checkpoint.sharded import load_checkpoint
from e3mega.device import process_rank
from e3mega.learner.gradients import Gradient, entropy_fall, gradient_of, gradients_by_sign
from e3mega.learner.reference import References
from e3mega.learner.reference_names import taken_at
from e3mega.learner.round_scores import round_scores
from e3mega.mcore.build import LearnerModel, build_learner
from e3mega.mcore.parallel import destroy_parallel, init_parallel
from e3mega.metrics import read_metrics
from e3mega.objective.options import LossOptions
from e3mega.plan.paths import MANIFEST, RunPaths
from e3mega.plan.planfile import Plan, StagePlan, learner_plan, read_plan
from e3mega.rollout.batch import PackedBatch
from e3mega.rollout.batch_file import read_batch
from e3mega.rollout.bins import bin_rules
from e3mega.rollout.packing import pack
from e3mega.rollout.records import Group
from e3mega.rollout.rows import read_groups
from e3mega.rollout.selection import keep_mixed
from e3mega.rollout.training_data import step_of_groups
from e3mega.rollout.whole_file import write_whole
from e3mega.spec.schema.curriculum import StageMode

OWN = "own"
"""Name of the loss that the run trained with."""

Losses = dict[str, dict[str, LossOptions]]
"""Other losses by name, of each RL stage by its name."""


@dataclass(slots=True)
class Recording:
    """A run to replay, and a learner to fill from its checkpoints."""

    plan: Plan
    paths: RunPaths
    learner: LearnerModel
    references: References


@dataclass(frozen=True, slots=True)
class ReplayedLoss:
    """One loss on one recorded step. Example: ``ReplayedLoss("nsr", 0.4, 0.0, 0.4, 0.7, 0.02)``."""

    name: str
    norm: float
    """Of the whole gradient, before clipping."""
    norm_positive: float
    """Of what positive samples contribute; KL and entropy terms left out."""
    norm_negative: float
    cosine: float
    """To the gradient that was taken."""
    entropy_change: float
    """Of the mean entropy, nats per unit length of a step along the gradient, first order."""


@dataclass(frozen=True, slots=True)
class ReplayedStep:
    """A step after a kept checkpoint, under its own loss and others.

    Example: ``ReplayedStep("easy", 312, 0.41, True, (own, nsr))``.
    """

    stage: str
    step: int
    """Number of the step, from 1, as in the metrics."""
    recorded_norm: float
    """The norm that the run logged; NaN if it did not come so far."""
    is_batch_rebuilt: bool
    """Whether the rollouts and the run's own loss gave the recorded batch bit for bit."""
    losses: tuple[ReplayedLoss, ...]


def replay(run: Recording, losses: Losses, *, segment: int) -> list[ReplayedStep]:
    """Replay the steps of a segment that follow a complete checkpoint; all ranks call it.

    The recording's learner is filled from one checkpoint after the other, on whatever grid it is.
    """
    found: list[ReplayedStep] = []
    for manifest in sorted(run.paths.checkpoints.glob(f"*/{MANIFEST}")):
        version = read_manifest(manifest.parent).version
        for stage in run.plan.stages:
            path = run.paths.batch(stage.name, version)
            is_here = stage.segment == segment and stage.mode is StageMode.RL
            if is_here and path.exists():
                load_checkpoint(run.learner, manifest.parent, run.plan)
                own = {name: by_stage[stage.name] for name, by_stage in losses.items()}
                found.append(_step(run, stage, read_batch(path), own))
    return found


def _step(
    run: Recording, stage: StagePlan, batch: PackedBatch, losses: dict[str, LossOptions]
) -> ReplayedStep:
    first = _first_step(run.paths, stage)
    stage_step = batch.step - first
    # Under its own loss the stage may have had no KL term, and have written no reference.
    run.references.places[taken_at(stage.name, 0)] = run.paths.checkpoint(first)
    groups = _groups(run.paths, stage, batch)
    learner, temperature = run.learner, stage.generation.temperature
    rebuilt = _pack(run.plan, stage, batch, groups, stage_step)
    taken: Gradient | None = None
    falling = entropy_fall(learner, batch, temperature=temperature)
    rows: list[ReplayedLoss] = []
    for name, loss in {OWN: stage.loss, **losses}.items():
        view = replace(stage, loss=loss)
        own = batch if name == OWN else _pack(run.plan, view, batch, groups, stage_step)
        (known,) = round_scores(learner, run.references, view, [own], stage_step=stage_step)
        case = {"temperature": temperature, "known": known}
        whole = gradient_of(learner, own, loss, **case)
        positive, negative = gradients_by_sign(learner, own, loss, **case)
        taken = whole if taken is None else taken
        norm = whole.norm
        rows.append(
            ReplayedLoss(
                name=name,
                norm=norm,
                norm_positive=positive.norm,
                norm_negative=negative.norm,
                cosine=whole.cosine(taken),
                # A step goes against the gradient, and so does ``falling``, of minus the entropy.
                entropy_change=whole.dot(falling) / norm if norm else 0.0,
            )
        )
    return ReplayedStep(
        stage=stage.name,
        step=batch.step + 1,
        recorded_norm=_recorded_norm(run.paths, batch.step + 1),
        is_batch_rebuilt=_is_same(rebuilt, batch),
        losses=tuple(rows),
    )


def _first_step(paths: RunPaths, stage: StagePlan) -> int:
    """Global number of the stage's first step."""
    first = min(paths.batch(stage.name, 0).parent.glob("step_*.safetensors"))
    return int(first.stem.removeprefix("step_"))


def _groups(paths: RunPaths, stage: StagePlan, batch: PackedBatch) -> tuple[Group, ...]:
    """The groups of the step, which is the first of its round."""
    groups = read_groups(paths.round_rows("train", stage.name, batch.round))
    rule, count = stage.loss.dynamic_sampling, stage.rollout.prompts_per_step
    if rule is None:
        return groups[:count]
    for wave in range(rule.max_refills):
        rows = paths.round_rows("refill", stage.name, batch.round * rule.max_refills + wave)
        groups += read_groups(rows) if rows.exists() else ()
    return keep_mixed(groups, stage.rollout.prompts_per_step * stage.rollout.steps_per_round)[
        :count
    ]


def _pack(
    plan: Plan, stage: StagePlan, batch: PackedBatch, groups: tuple[Group, ...], stage_step: int
) -> PackedBatch:
    budget = groups[0].request.max_tokens
    data = step_of_groups(groups, stage.loss, budget_tokens=budget, stage_step=stage_step)
    return pack(
        data.sequences,
        normalizer=data.normalizer,
        rules=bin_rules(plan.model, stage.learner, batch.tokens_NT.shape[1]),
        stage=batch.stage,
        step=batch.step,
        round=batch.round,
        version=batch.version,
        lag=batch.lag,
    )


def _is_same(one: PackedBatch, other: PackedBatch) -> bool:
    pairs = zip(asdict(one).values(), asdict(other).values(), strict=True)
    return all(np.array_equal(left, right) for left, right in pairs)


def _recorded_norm(paths: RunPaths, step: int) -> float:
    events = [e for e in read_metrics(paths.metrics("loop")) if e["event"] == "step"]
    norms = [event["grad_norm"] for event in events if event["step"] == step]
    return float(str(norms[-1])) if norms else float("nan")


def main(run_dir: Path, segment: int, request: Path, answer: Path) -> None:
    """Replay on this rank; world rank 0 writes the answer."""
    paths = RunPaths(run_dir)
    plan = learner_plan(read_plan(paths.plan), segment)
    grid = init_parallel(plan.layout.learner, process_rank())
    learner = build_learner(plan, grid)
    losses = TypeAdapter(Losses).validate_json(request.read_bytes())
    references = References(learner, plan, paths, {}, is_replay=True)
    steps = replay(Recording(plan, paths, learner, references), losses, segment=segment)
    if grid.is_main:
        write_whole(answer, json.dumps([asdict(step) for step in steps]).encode())
    destroy_parallel()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4]))
