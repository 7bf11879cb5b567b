"""A sweep on this machine trains what its runs share once, and each run as if alone."""

import signal
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from e3mega.metrics import read_metrics
from e3mega.plan.paths import RunPaths, sweep_report
from e3mega.rollout.shared import read_shared
from tests.e2e.live_run import Finished, LiveRun, LiveRuns, attempts_of

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

AXIS = "loss.entropy.coefficient=[0.01, 0.02]"
"""The first point is what the run ``finished`` was started with; the warm-up knows no such term."""
SHARED, SAME, OTHER = (
    f"quickstart-small-{name}" for name in ("shared-1", "coefficient-0_01", "coefficient-0_02")
)


def sweep(live_runs: LiveRuns, folder: Path, watched: str) -> LiveRun:
    """`e3mega sweep --run`, with an eye on one of its runs."""
    words = ("sweep", "quickstart-small", "--axis", AXIS, "--out", str(folder), "--run")
    return live_runs.command(folder / watched, *words)


def test_runs_of_a_sweep_share_a_warm_up_and_end_with_the_weights_of_a_run_alone(
    live_runs: LiveRuns, finished: Finished, tmp_path: Path
) -> None:
    killed = sweep(live_runs, tmp_path, SHARED)
    killed.wait_for(lambda: bool(killed.events("checkpoint")))
    killed.process.send_signal(signal.SIGINT)
    status, lines, _ = killed.finish()
    assert status == 130, lines
    again = sweep(live_runs, tmp_path, SAME)
    status, lines, _ = again.finish(seconds=600)
    text = "\n".join(lines)
    assert status == 0, text
    assert sweep_report(tmp_path).exists()
    assert "3 runs: " in text and "planned" in text and "spent" in text

    wanted = load_file(finished.run.paths.export / "model.safetensors")
    found = load_file(RunPaths(tmp_path / SAME).export / "model.safetensors")
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert np.array_equal(found[name], value), name
    other = load_file(RunPaths(tmp_path / OTHER).export / "model.safetensors")
    assert any(not np.array_equal(other[name], value) for name, value in wanted.items())

    assert [a["exit"] for a in attempts_of(tmp_path / SHARED)] == [130, 0]
    whole = finished.last("ledger")
    for run in (SAME, OTHER):
        paths = RunPaths(tmp_path / run)
        shared = read_shared(paths)
        assert shared is not None and shared.stages == ("warmup",)
        own = [e for e in read_metrics(paths.metrics("loop")) if "shared_from" not in e]
        assert {e["stage"] for e in own if e["event"] == "step"} == {"easy", "hard"}
        ledger = [e for e in own if e["event"] == "ledger"][-1]
        assert ledger["supervised"] == {"rollouts": 0, "tokens": 0}
        warmup = ledger["shared"]["warmup"]["supervised"]  # pyright: ignore[reportArgumentType, reportCallIssue, reportIndexIssue, reportOptionalSubscript] -- JSON
        assert warmup == whole["supervised"]

    third = sweep(live_runs, tmp_path, SAME)
    status, lines, _ = third.finish()
    assert status == 0
    assert sum("finished before" in line for line in lines) == 3
    assert [len(attempts_of(tmp_path / run)) for run in (SHARED, SAME, OTHER)] == [2, 1, 1]
