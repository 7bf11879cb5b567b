"""Weights that an optimizer step made infinite end the run, and no checkpoint holds them."""

from pathlib import Path

import pytest

from e3mega.checkpoint.manifest import newest_complete
from tests.checkpoint_cases import saved_tensors
from tests.e2e.live_run import LiveRuns, attempts_of

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


def test_the_newest_checkpoint_is_the_one_before_the_step_that_spoilt_the_weights(
    live_runs: LiveRuns, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    rate = "curriculum.stages.easy.optimizer.learning_rate=1e39"
    run = live_runs.start(run_dir, "quickstart-small", rate)
    status, lines, _ = run.finish()
    assert status == 1, lines
    assert "no checkpoint of version" in lines[-1] and "is not finite" in lines[-1]
    newest = newest_complete(run.paths).folder
    assert newest is not None
    (entered,) = [e for e in run.events("stage_started") if e["stage"] == "easy"]
    before = [e for e in run.events("step") if e["stage"] != "easy"]
    assert entered and newest == run.paths.checkpoint(len(before))
    assert all(tensor.isfinite().all() for tensor in saved_tensors(newest).values())
    assert [attempt["exit"] for attempt in attempts_of(run_dir)] == [1]
