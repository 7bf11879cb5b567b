"""Starts the learner's ranks on a finished run to replay its steps under other losses."""

import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from e3mega.errors import E3Error
from e3mega.metrics import Json
from e3mega.objective.options import LossOptions
from e3mega.plan.jobs import learner_environment
from e3mega.plan.paths import RunPaths
from e3mega.plan.planfile import Plan, learner_plan, read_plan
from e3mega.plan.topology import num_learner_ranks
from e3mega.run.environment import job_environment
from e3mega.spec.resolve import resolve_spec
from e3mega.spec.schema.curriculum import StageMode

_DEADLINE_S = 3600.0


def losses_of_stages(run_dir: Path, fragment: str) -> dict[str, LossOptions]:
    """The loss that a fragment gives each RL stage of a run in the place of its own.

    Raises SpecError as a spec would that states it: the loss must obey the rules in the stage.
    """
    paths = RunPaths(run_dir)
    plan = read_plan(paths.plan)
    stages = [stage.name for stage in plan.stages if stage.mode is StageMode.RL]
    replaced = {f"curriculum.stages.{name}.loss": [f"loss/{fragment}"] for name in stages}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{plan.name}.yaml"
        # JSON is YAML.
        spec = {"include": [str(paths.resolved.resolve())], "replace": replaced}
        path.write_text(json.dumps(spec), encoding="utf-8")
        options = resolve_spec(path).options
    return {name: options.curriculum.stages[name].loss for name in stages}


def replay_run(run_dir: Path, fragments: Sequence[str]) -> list[dict[str, Json]]:
    """The ``ReplayedStep`` records of a run, as JSON, stage by stage.

    Raises E3Error with the learner's last words, or when no checkpoint is followed by an RL step.
    """
    plan = read_plan(RunPaths(run_dir).plan)
    losses = {name: losses_of_stages(run_dir, name) for name in fragments}
    segments = {stage.segment for stage in plan.stages if stage.mode is StageMode.RL}
    with tempfile.TemporaryDirectory() as folder:
        request = Path(folder) / "request.json"
        dumped = {
            name: {stage: loss.model_dump(mode="json") for stage, loss in by_stage.items()}
            for name, by_stage in losses.items()
        }
        request.write_text(json.dumps(dumped))
        steps = [
            step
            for segment in sorted(segments)
            for step in _replay_segment(run_dir, plan, segment, request)
        ]
    if not steps:
        raise E3Error(
            f"{run_dir}: no kept checkpoint is followed by a recorded RL step; keep more of them "
            "with checkpoint.keep_last"
        )
    return steps


def _replay_segment(
    run_dir: Path, plan: Plan, segment: int, request: Path
) -> list[dict[str, Json]]:
    grid = learner_plan(plan, segment).layout.learner
    answer = request.with_name(f"answer_{segment}.json")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc-per-node={num_learner_ranks(grid)}", "-m", "e3mega.learner.replay"]
    done = subprocess.run(
        [*command, str(run_dir.resolve()), str(segment), str(request), str(answer)],
        env=job_environment(os.environ, learner_environment(grid)),
        capture_output=True,
        text=True,
        check=False,
        timeout=_DEADLINE_S,
    )
    if done.returncode or not answer.exists():
        reasons = [line for line in done.stderr.splitlines() if "Error" in line]
        raise E3Error(f"replay of {run_dir} failed: {(reasons or ['no reason given'])[0]}")
    return json.loads(answer.read_text())


def replay_table(steps: Sequence[dict[str, Json]]) -> Iterator[str]:
    """The records as a person reads them."""
    yield "|g+|, |g-|: of positive and negative samples; cosine: to the gradient taken"
    yield f"{'loss':<16}{'|g|':>11}{'|g+|':>11}{'|g-|':>11}{'cosine':>9}{'dH per step':>13}"
    for step in steps:
        recorded = step["recorded_norm"]
        assert isinstance(recorded, float)
        shown = "not recorded" if math.isnan(recorded) else f"recorded |g| {recorded:.6g}"
        same = "" if step["is_batch_rebuilt"] else "; the recorded batch could not be rebuilt"
        yield f"stage {step['stage']}, step {step['step']}, {shown}{same}"
        losses = step["losses"]
        assert isinstance(losses, list)
        for row in losses:
            assert isinstance(row, dict)
            yield (
                f"  {row['name']:<14}{row['norm']:>11.4g}{row['norm_positive']:>11.4g}"
                f"{row['norm_negative']:>11.4g}{row['cosine']:>9.3f}{row['entropy_change']:>13.3g}"
            )
