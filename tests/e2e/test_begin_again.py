"""A learner that is killed begins again from the newest checkpoint, beside the same servers."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from e3mega.metrics import Json, read_metrics
from e3mega.plan.paths import RunPaths

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(1200)]

SETTINGS = (
    "cluster.max_restarts=2",
    "evaluation.num_problems=8",
    "evaluation.pass_num_problems=0",
)


def events(run_dir: Path, kind: str) -> list[dict[str, Json]]:
    path = RunPaths(run_dir).metrics("loop")
    return [e for e in read_metrics(path) if e["event"] == kind]


def pid_of(run_dir: Path, name: str) -> int:
    report = json.loads(RunPaths(run_dir).node_report(0).read_text())
    return next(job["pid"] for job in report["jobs"] if job["name"] == name)


def test_a_killed_rank_costs_an_attempt_and_no_server(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    words = [word for each in SETTINGS for word in ("--set", each)]
    command = subprocess.Popen(
        [
            *(sys.executable, "-m", "e3mega.cli", "run", "quickstart-small"),
            *("--run-dir", str(run_dir), *words),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    while not (events(run_dir, "canary") and events(run_dir, "round")):
        assert command.poll() is None, command.communicate()[0]
        time.sleep(0.2)
    server = pid_of(run_dir, "generation_0")
    ranks = psutil.Process(pid_of(run_dir, "learner")).children(recursive=True)
    os.kill(ranks[-1].pid, signal.SIGKILL)
    while len(events(run_dir, "run_started")) < 2:
        assert command.poll() is None, command.communicate()[0]
        time.sleep(0.2)
    assert pid_of(run_dir, "generation_0") == server
    output, _ = command.communicate(timeout=900)
    assert command.returncode == 0, output
    attempts = [json.loads(x) for x in RunPaths(run_dir).exit_reason.read_text().splitlines()]
    assert [attempt["exit"] for attempt in attempts] == [1, 0]
    assert "rank 1 was killed by SIGKILL" in attempts[0]["reason"]
    ledger = events(run_dir, "ledger")[-1]
    assert ledger["prompts_redrawn"] == ledger["prompts_lost"]
