"""Runs on a real Slurm of two nodes: they train as on one machine, and survive its limits."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from e3mega.metrics import Json, read_metrics
from e3mega.plan.paths import RunPaths
from tests.cluster.local_slurm import LocalSlurm
from tests.e2e.live_run import SETTINGS, Finished, LiveRuns

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]


def e3mega(*arguments: str, environment: dict[str, str] | None = None) -> str:
    """Run a command to its end; what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "e3mega.cli", *arguments],
        env=environment or dict(os.environ),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, f"{arguments}: {done.stdout}\n{done.stderr}"
    return done.stdout


def with_settings(*more: str) -> list[str]:
    return [word for each in (*SETTINGS, *more) for word in ("--set", each)]


def attempts_of(run_dir: Path) -> list[dict[str, Json]]:
    path = RunPaths(run_dir).exit_reason
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def events(run_dir: Path, kind: str) -> list[dict[str, Json]]:
    return [e for e in read_metrics(RunPaths(run_dir).metrics("loop")) if e["event"] == kind]


def wait_for(condition: Callable[[], bool], run_dir: Path, seconds: float = 600.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        printed = [path.read_text() for path in RunPaths(run_dir).launches.rglob("log-*.out")]
        assert time.monotonic() < deadline, "\n".join(["waited in vain", *printed])
        time.sleep(0.3)


def is_finished(run_dir: Path) -> bool:
    return any(attempt["exit"] == 0 for attempt in attempts_of(run_dir))


def assert_same(run_dir: Path, wanted: Path) -> None:
    """Both runs took the same steps, once each, with the same losses, to the same weights."""
    values = [
        [(e["step"], e["loss"], e["grad_norm"]) for e in events(each, "step")]
        for each in (run_dir, wanted)
    ]
    assert values[0] == values[1]
    assert_same_weights(run_dir, wanted)


def assert_same_weights(run_dir: Path, wanted: Path) -> None:
    """Both exports are equal bit for bit."""
    first, second = (load_file(RunPaths(d).export / "model.safetensors") for d in (run_dir, wanted))
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert np.array_equal(value, second[name]), name


def launched(slurm: LocalSlurm, run_dir: Path, *more: str) -> None:
    """A run on the test's Slurm, from its launch to its end."""
    words = ("launch", "quickstart-small", "--on", "slurm-test", "--run-dir", str(run_dir))
    e3mega(*words, *with_settings(*more), "--apply", environment=slurm.environment)
    wait_for(lambda: is_finished(run_dir), run_dir)


def test_a_launch_trains_across_two_nodes_as_on_one_machine(
    slurm: LocalSlurm, finished: Finished, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    launched(slurm, run_dir)
    assert_same(run_dir, finished.run.paths.run_dir)
    for node in (0, 1):
        assert json.loads((RunPaths(run_dir).provenance(0) / f"node_{node}.json").read_text())
    assert "learner_1" in RunPaths(run_dir).node_report(1).read_text()
    assert "finished" in e3mega("status", str(run_dir))
    (printed,) = [path.read_text() for path in RunPaths(run_dir).launches.rglob("log-*.out")]
    assert "stage easy started" in printed and "\x1b" not in printed
    scripts = [path.read_text() for path in RunPaths(run_dir).launches.rglob("*.sh")]
    key = RunPaths(run_dir).key.read_text().strip()
    assert scripts and not any(key in script for script in scripts)


@pytest.mark.slow
def test_a_cancelled_job_is_resumed_to_the_same_weights(
    slurm: LocalSlurm, finished: Finished, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    words = ("launch", "quickstart-small", "--on", "slurm-test", "--run-dir", str(run_dir))
    e3mega(*words, *with_settings(), "--apply", environment=slurm.environment)
    wait_for(lambda: len(events(run_dir, "checkpoint")) >= 3, run_dir)
    job = json.loads(RunPaths(run_dir).launch_record.read_text())["handles"][0]
    slurm.run("scancel", job)
    wait_for(lambda: attempts_of(run_dir)[-1]["ended"] is not None, run_dir)
    assert attempts_of(run_dir)[-1]["exit"] != 0
    e3mega("resume", str(run_dir), environment=slurm.environment)
    wait_for(lambda: is_finished(run_dir), run_dir)
    assert_same_weights(run_dir, finished.run.paths.run_dir)


@pytest.mark.slow
def test_servers_on_nodes_of_their_own_train_as_on_one_machine(
    slurm: LocalSlurm, finished: Finished, tmp_path: Path
) -> None:
    """A heterogeneous job; weights come to the other node through the run folder."""
    run_dir = tmp_path / "run"
    launched(slurm, run_dir, "cluster.learner_nodes=1", "cluster.generation_nodes=1")
    assert_same(run_dir, finished.run.paths.run_dir)
    reports = [RunPaths(run_dir).node_report(node).read_text() for node in (0, 1)]
    assert "generation_0" in reports[1] and "generation_0" not in reports[0]


@pytest.mark.slow
def test_a_stage_with_another_grid_is_resharded_on_two_nodes(
    slurm: LocalSlurm, live_runs: LiveRuns, tmp_path: Path
) -> None:
    """Tensor parallel over both nodes, then data parallel: as on one machine."""
    grid = (
        "curriculum.stages.hard.layout.learner.tp=1",
        "curriculum.stages.hard.layout.learner.dp=2",
    )
    local = live_runs.start(tmp_path / "local", "quickstart-small", *SETTINGS, *grid)
    status, lines, _ = local.finish()
    assert status == 0, lines
    run_dir = tmp_path / "run"
    launched(slurm, run_dir, *grid)
    assert len(events(run_dir, "grid_changed")) == 1
    assert_same(run_dir, local.paths.run_dir)


@pytest.mark.slow
def test_a_sweep_is_one_experiment_that_trains_shared_stages_once(
    slurm: LocalSlurm, tmp_path: Path
) -> None:
    site, out = tmp_path / "site.yaml", tmp_path / "sweep"
    site.write_text('kind: slurm\nexecutor: {account: lab, partition: batch, time: "00:30:00"}\n')
    axes = ("--fragments", "loss=[loss/grpo, loss/grpo_mask]", "--out", str(out))
    words = ("sweep", "quickstart-small", *axes, "--on", str(site), "--apply")
    printed = e3mega(*words, environment=slurm.environment)
    shared, *runs = (
        out / f"quickstart-small-{name}" for name in ("shared-1", "loss-grpo", "loss-grpo_mask")
    )
    assert printed.count("submitted ") == 3
    for run_dir in (shared, *runs):
        wait_for(partial(is_finished, run_dir), run_dir)
    for run_dir in runs:
        own = [e for e in events(run_dir, "step") if "shared_from" not in e]
        taken = [e for e in events(run_dir, "step") if "shared_from" in e]
        assert {e["stage"] for e in own} == {"easy", "hard"}
        assert len(taken) == len(events(shared, "step")) > 0
        started = attempts_of(run_dir)[0]["started"]
        assert float(str(started)) >= float(str(attempts_of(shared)[0]["ended"]))


@pytest.mark.slow
def test_a_chain_of_jobs_survives_a_limit_that_is_too_short(
    slurm: LocalSlurm, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    site = tmp_path / "site.yaml"
    # The signal, up to half a minute early, comes when the first job has trained for a while.
    site.write_text(
        'kind: slurm\nexecutor: {account: lab, partition: batch, time: "00:02:00"}\n'
        "cluster: {learner_nodes: 2, leave_deadline_s: 40}\n"
        "chain: {kind: dependent, jobs: 8}\n"
    )
    more = ("curriculum.stages.easy.exit.steps=80", "curriculum.stages.hard.exit.steps=1")
    words = ("launch", "quickstart-small", "--on", str(site), "--run-dir", str(run_dir))
    e3mega(*words, *with_settings(*more), "--apply", environment=slurm.environment)
    wait_for(lambda: is_finished(run_dir), run_dir, seconds=600)
    attempts = attempts_of(run_dir)
    assert attempts[0]["exit"] == 75
    assert "its time on the machine ends" in str(attempts[0]["reason"])
    steps = [int(str(e["step"])) for e in events(run_dir, "step")]
    assert steps == list(range(1, len(steps) + 1)), "no step is taken twice"
