"""Two real servers, one killed at random moments: the run finishes, nothing is doubled."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest

from e3mega.metrics import Json, read_metrics
from e3mega.plan.paths import RunPaths

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]

SETTINGS = (
    "layout.generation.num_replicas=2",
    "layout.generation.threads_per_replica=1",
    "evaluation.num_problems=8",
    "evaluation.pass_num_problems=0",
)


def events(run_dir: Path, kind: str) -> list[dict[str, Json]]:
    path = RunPaths(run_dir).metrics("loop")
    return [e for e in read_metrics(path) if e["event"] == kind]


def server_pid(run_dir: Path, name: str) -> int | None:
    """The process of a server that runs now."""
    report = json.loads(RunPaths(run_dir).node_report(0).read_text())
    found = [job for job in report["jobs"] if job["name"] == name and job["status"] is None]
    return found[0]["pid"] if found else None


def start(run_dir: Path, *settings: str) -> subprocess.Popen[str]:
    words = [word for each in (*SETTINGS, *settings) for word in ("--set", each)]
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "e3mega.cli", "run", "quickstart-small"),
            *("--run-dir", str(run_dir), *words),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def kill_server(command: subprocess.Popen[str], run_dir: Path, delay_s: float) -> None:
    """Kill the second server some seconds after it first serves; returns when the loop knows."""
    _wait_until(command, lambda: _serves(run_dir), "the second server serves")
    time.sleep(delay_s)
    pid = server_pid(run_dir, "generation_1")
    assert pid is not None, "only this test ends it"
    os.kill(pid, signal.SIGKILL)
    noticed = partial(_has_more, run_dir, 0)
    _wait_until(command, noticed, "the loop notices that the second server was killed")


def kill_server_at(
    command: subprocess.Popen[str], run_dir: Path, step: int, delay_s: float
) -> None:
    """Kill the second server some seconds after a step, whatever it is at: its start too."""
    _wait_until(command, lambda: len(events(run_dir, "step")) >= step, f"step {step}")
    time.sleep(delay_s)
    alive = partial(server_pid, run_dir, "generation_1")
    _wait_until(command, lambda: alive() is not None, "the second server is started again")
    pid = alive()
    assert pid is not None, "only this test ends it"
    os.kill(pid, signal.SIGKILL)
    _wait_until(command, lambda: alive() != pid, "the supervisor notices")


def _has_more(run_dir: Path, lost: int) -> bool:
    return len(events(run_dir, "server_lost")) > lost


def _serves(run_dir: Path) -> bool:
    """Whether the second server passed the canary since it was last lost."""
    checked = [float(str(e["time"])) for e in events(run_dir, "canary") if e["server"] == 1]
    lost = [float(str(e["time"])) for e in events(run_dir, "server_lost")]
    return bool(checked) and (not lost or checked[-1] > lost[-1])


def _wait_until(command: subprocess.Popen[str], condition: Callable[[], bool], what: str) -> None:
    """The deadline is long, for the machine may be busy; the run must not end meanwhile."""
    deadline = time.monotonic() + 600
    while not condition():
        assert command.poll() is None, f"the run ended before {what}"
        assert time.monotonic() < deadline, f"not within 600 s: {what}"
        time.sleep(0.1)


def assert_whole(run_dir: Path) -> None:
    """Every step once, every sample once, and a ledger that balances."""
    steps = [int(str(e["step"])) for e in events(run_dir, "step")]
    assert steps == list(range(1, len(steps) + 1))
    ledger = events(run_dir, "ledger")[-1]
    assert ledger["prompts_issued"] == int(str(ledger["prompts_answered"])) + int(
        str(ledger["prompts_lost"])
    )
    assert ledger["prompts_redrawn"] == ledger["prompts_lost"]
    folder = RunPaths(run_dir).rollouts_for("train")
    rows: Counter[tuple[object, ...]] = Counter()
    for path in folder.rglob("*.parquet"):
        for row in pq.read_table(path, columns=["index", "sample"]).to_pylist():
            rows[(str(path), row["index"], row["sample"])] += 1
    assert rows and max(rows.values()) == 1


def test_a_server_of_two_is_killed_and_the_run_finishes(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    command = start(run_dir)
    kill_server(command, run_dir, random.Random(1).uniform(0.0, 3.0))
    output, _ = command.communicate(timeout=600)
    assert command.returncode == 0, output
    assert len(events(run_dir, "server_lost")) == 1
    assert_whole(run_dir)


@pytest.mark.slow
def test_a_server_of_two_that_hangs_is_given_up_and_the_run_finishes(tmp_path: Path) -> None:
    """All its processes stop, as on a machine that swaps; its connections stay open."""
    run_dir = tmp_path / "run"
    # It may stop while it answers requests or while it takes weights.
    deadlines = ("generation.request_deadline_s=20", "generation.sync_deadline_s=20")
    command = start(run_dir, *deadlines)
    _wait_until(command, lambda: _serves(run_dir), "the second server serves")
    pid = server_pid(run_dir, "generation_1")
    assert pid is not None
    for process in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True)):
        process.suspend()
    output, _ = command.communicate(timeout=600)
    assert command.returncode == 0, output
    (lost,) = events(run_dir, "server_lost")
    assert "no answer within 20 s" in str(lost["reason"]), lost
    assert not psutil.pid_exists(pid)
    assert_whole(run_dir)


@pytest.mark.slow
def test_a_server_of_two_is_killed_ten_times_and_the_run_finishes(tmp_path: Path) -> None:
    """At random moments, some of them while it starts again; the run outlives the last of them."""
    run_dir, chance = tmp_path / "run", random.Random(2)
    more = ("cluster.max_restarts=10", "curriculum.stages.easy.exit.steps=220")
    command = start(run_dir, *more, "checkpoint.every_rounds=20")
    kill_server(command, run_dir, chance.uniform(0.0, 3.0))
    first = len(events(run_dir, "step"))
    for number in range(9):
        step = first + 20 * number + chance.randint(1, 20)
        kill_server_at(command, run_dir, step, chance.uniform(0.0, 3.0))
    output, _ = command.communicate(timeout=1200)
    assert command.returncode == 0, output
    told = list(read_metrics(RunPaths(run_dir).metrics("supervisor")))
    assert sum(e["event"] == "server_ended" for e in told) == 10
    assert events(run_dir, "server_joined")
    assert_whole(run_dir)
