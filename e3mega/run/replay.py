"""Starts the learner's ranks on a finished run to replay its steps under other losses."""

import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from e3mega.errors import E3Error, Problem, SpecError
from e3mega.metrics import Json
from e3mega.objective.options import LossOptions
from e3mega.plan.paths import RunPaths
from e3mega.plan.planfile import Role, read_plan
from e3mega.plan.topology import num_learner_ranks
from e3mega.spec.compose import compose

_DEADLINE_S = 3600.0


def loss_of_fragment(name: str) -> LossOptions:
    """The loss that a fragment makes of the schema's defaults; SpecError if it is none."""
    problems: list[Problem] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "loss.yaml"
        path.write_text(f"include: [loss/{name}]\n", encoding="utf-8")
        composition = compose(path, problems.append)
    if problems:
        raise SpecError(tuple(problems))
    return LossOptions.model_validate_json(json.dumps(composition.tree.get("loss", {})))


def replay_run(run_dir: Path, names: Sequence[str]) -> list[dict[str, Json]]:
    """The ``ReplayedStep`` records of a run, as JSON; E3Error with the learner's last words."""
    paths = RunPaths(run_dir)
    plan = read_plan(paths.plan)
    losses = {name: loss_of_fragment(name).model_dump(mode="json") for name in names}
    job = next(job for job in plan.jobs if job.role is Role.LEARNER)
    ranks = num_learner_ranks(plan.layout.learner)
    with tempfile.TemporaryDirectory() as folder:
        request, answer = Path(folder) / "request.json", Path(folder) / "answer.json"
        request.write_text(json.dumps(losses))
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command += [f"--nproc-per-node={ranks}", "-m", "e3mega.learner.replay"]
        done = subprocess.run(
            [*command, str(run_dir.resolve()), str(request), str(answer)],
            env={**_environment(), **job.env},
            capture_output=True,
            text=True,
            check=False,
            timeout=_DEADLINE_S,
        )
        if done.returncode or not answer.exists():
            reasons = [line for line in done.stderr.splitlines() if "Error" in line]
            raise E3Error(f"replay of {run_dir} failed: {(reasons or ['no reason given'])[0]}")
        return json.loads(answer.read_text())


def _environment() -> dict[str, str]:
    import os

    return dict(os.environ)


def replay_table(steps: Sequence[dict[str, Json]]) -> Iterator[str]:
    """The records as a person reads them."""
    yield (
        f"{'loss':<16}{'|g|':>11}{'|g+|':>11}{'|g-|':>11}{'cosine':>9}{'dH per step':>13}"
        "   (|g+|, |g-|: of positive and negative samples; cosine: to the gradient taken)"
    )
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
