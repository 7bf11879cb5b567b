"""A run that is interrupted or killed ends whole, and goes on to the same weights bit for bit."""

import signal
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.e2e.live_run import END_S, Finished, LiveRun, LiveRuns, attempts_of, hit, victims

pytestmark = pytest.mark.e2e

NAMES = (
    "learner rank 0",
    "learner rank 1",
    "loop",
    "server's API process",
    "server's engine core",
    "server's worker",
)


def assert_same_weights(run_dir: Path, finished: Finished) -> None:
    """The exports of two runs are equal bit for bit."""
    wanted = load_file(finished.run.paths.export / "model.safetensors")
    found = load_file(run_dir / "export" / "hf" / "model.safetensors")
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert np.array_equal(found[name], value), name


def kill(run: LiveRun, name: str) -> None:
    """Kill one process of a run that generates, and check how the run ends."""
    run.wait_for(lambda: bool(run.events("canary")))
    hit(dict(victims(run))[name], signal.SIGKILL)
    status, lines, waited_s = run.finish()
    assert status not in (0, 130), lines
    assert waited_s < END_S, f"{name}: the run took {waited_s:.0f} s to end"
    job = {"learner": "learner", "loop": "loop"}.get(name.split()[0], "generation_0")
    assert f"job {job}" in lines[-1], f"{name} was killed, but the reason is: {lines[-1]}"
    assert "e3mega resume" in lines[-2]


def test_ctrl_c_and_a_kill_leave_a_run_that_goes_on_to_the_same_weights(
    live_runs: LiveRuns, finished: Finished, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    first = live_runs.start(run_dir)
    first.wait_for(lambda: len(first.events("round")) >= 3)
    first.process.send_signal(signal.SIGINT)
    status, lines, waited_s = first.finish()
    assert status == 130, lines
    assert waited_s < END_S
    assert "stopped by Ctrl-C" in lines[-1]
    kill(live_runs.resume(run_dir), "server's engine core")
    last = live_runs.resume(run_dir)
    status, lines, _ = last.finish()
    assert status == 0, lines
    assert [attempt["exit"] for attempt in attempts_of(run_dir)] == [130, 1, 0]
    assert_same_weights(run_dir, finished)


@pytest.mark.slow
def test_whatever_is_killed_the_run_ends_and_goes_on_to_the_same_weights(
    live_runs: LiveRuns, finished: Finished, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    kill(live_runs.start(run_dir), NAMES[0])
    for name in NAMES[1:]:
        kill(live_runs.resume(run_dir), name)
    last = live_runs.resume(run_dir)
    status, lines, _ = last.finish()
    assert status == 0, lines
    assert [attempt["exit"] for attempt in attempts_of(run_dir)] == [1] * len(NAMES) + [0]
    assert_same_weights(run_dir, finished)
    ledger = last.events("ledger")[-1]
    assert ledger["prompts_redrawn"] == ledger["prompts_lost"]
