"""A real learner whose gradient or weights become NaN: the run ends, and goes on when mended."""

from dataclasses import replace
from pathlib import Path

import pytest

from e3mega.metrics import read_metrics
from e3mega.plan.compile import compile_plan
from e3mega.plan.paths import MANIFEST, RunPaths
from e3mega.plan.planfile import Plan
from e3mega.run.creation import create_folder
from e3mega.spec.resolve import find_spec, resolve_spec
from tests.e2e.live_run import SETTINGS, Finished, LiveRuns, attempts_of
from tests.e2e.spoilt_learner import MODULE, NAME, Part, Spoilt, mend, spoil
from tests.e2e.test_kills import assert_same_weights

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(1200)]


def plan_that_may_be_spoilt() -> Plan:
    """That of the run ``finished``, its learner's ranks under the test's own module."""
    plan = compile_plan(resolve_spec(find_spec("quickstart-small"), sets=SETTINGS).options)
    assert any("e3mega.learner.worker" in job.argv for job in plan.jobs)

    def own(words: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(MODULE if word == "e3mega.learner.worker" else word for word in words)

    return replace(plan, jobs=tuple(replace(job, argv=own(job.argv)) for job in plan.jobs))


def newest_checkpoint(paths: RunPaths) -> str:
    return max(p.name for p in paths.checkpoints.iterdir() if (p / MANIFEST).exists())


def test_a_run_whose_learner_is_not_finite_goes_on_to_the_same_weights(
    live_runs: LiveRuns, finished: Finished, tmp_path: Path
) -> None:
    """The gradient of the first step of RL is spoilt, then the weights of the second."""
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    paths = RunPaths(run_dir)
    create_folder(plan_that_may_be_spoilt(), "seed: 1\n", paths)
    for spoilt, words in (
        (Spoilt(Part.GRADIENT.value, 8), f"the gradient of {NAME} is not finite"),
        (Spoilt(Part.WEIGHTS.value, 9), f"the weights of version 10 are not sent, for {NAME} is"),
    ):
        spoil(run_dir, spoilt)
        run = live_runs.resume(run_dir)
        status, lines, _ = run.finish()
        assert status == 1, lines
        assert words in lines[-1], lines
        assert newest_checkpoint(paths) <= paths.checkpoint(spoilt.step).name
    mend(run_dir)
    last = live_runs.resume(run_dir)
    status, lines, _ = last.finish()
    assert status == 0, lines
    assert [attempt["exit"] for attempt in attempts_of(run_dir)] == [1, 1, 0]
    assert_same_weights(run_dir, finished)
    steps = [
        event["step"] for event in read_metrics(paths.metrics("loop")) if event["event"] == "step"
    ]
    assert sorted(set(steps)) == [event["step"] for event in finished.run.events("step")]
    ledger = last.events("ledger")[-1]
    assert ledger["prompts_redrawn"] == ledger["prompts_lost"]
