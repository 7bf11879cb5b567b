"""``e3mega eval`` on two models with real servers, killed in the middle and started again."""

import json
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import psutil
import pytest

from e3mega.report.evaluated import difference_in_errors
from e3mega.report.runs import numbers, read_run
from tests.e2e.live_run import Finished
from tests.e2e.random_qwen3 import write_countdown_model
from tests.e2e.trained_model import write_trained_model

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
NUM_PROBLEMS, BUDGETS = 64, (16, 32, 64, 128, 256)


def requests(cache: Path) -> Counter[str]:
    """How often each request stands in the caches of all models."""
    lines = [line for path in cache.rglob("*.jsonl") for line in path.read_bytes().splitlines()]
    complete = [line for line in lines if line.endswith(b"}")]
    return Counter(json.loads(line)["request"] for line in complete)


def test_two_models_at_five_budgets_resume_without_asking_twice(tmp_path: Path) -> None:
    models = [
        write_countdown_model(tmp_path / "random", seed=0),
        write_trained_model(tmp_path / "trained"),
    ]
    cache = tmp_path / "cache"
    line = [
        *(sys.executable, "-m", "e3mega.cli", "eval", *map(str, models)),
        *("--task", "countdown-3", "--budgets", ",".join(map(str, BUDGETS)), "--separate"),
        *("--training-budget", "64", "--problems", str(NUM_PROBLEMS), "--samples", "2"),
        *("--cache", str(cache), "--out", str(tmp_path / "out")),
    ]
    first = subprocess.Popen(line, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 240
    while not cache.exists() or len(requests(cache)) < 100:
        assert first.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    below = psutil.Process(first.pid).children(recursive=True)
    first.kill()
    first.wait()
    _, alive = psutil.wait_procs(below, timeout=60)
    assert alive == [], "the servers die with the command"
    before = requests(cache)
    done = subprocess.run(line, capture_output=True, text=True, timeout=400, check=True)
    after = requests(cache)
    assert set(before) <= set(after)
    assert max(after.values()) <= len(models), "a request stands once in each model's cache"
    assert sum(after.values()) == len(models) * NUM_PROBLEMS * (1 + len(BUDGETS))
    assert "page:" in done.stdout and "tokens generated" in done.stdout
    for name in ("random", "trained"):
        run = read_run(tmp_path / "out" / name)
        (separate,) = run.of("separate")
        whole = next(e for e in run.of("evaluation") if e["slice"] == "countdown-3")
        assert whole["budgets"] == list(BUDGETS)
        # Five budgets each; 4 standard errors of a difference are exceeded once in 3,000 times.
        assert not difference_in_errors(whole, separate) > 4.0
    accuracy, apart = numbers(whole, "accuracy"), numbers(separate, "accuracy")
    assert accuracy[0] < 0.1 < 0.2 < accuracy[-1], "a curve that rises, so that they could differ"
    assert max(np.abs(np.subtract(accuracy, apart))) > 0, "generated apart, not read off"
    again = subprocess.run(line, capture_output=True, text=True, timeout=120, check=True)
    assert "random: 0 tokens generated" in again.stdout, "nothing is missing, so no server starts"


def test_a_run_and_its_checkpoint_are_measured_on_several_benchmarks(
    finished: Finished, tmp_path: Path
) -> None:
    """The newest checkpoint holds the weights that were exported, so nothing is asked twice."""
    run_dir = finished.run.paths.run_dir
    newest = max(finished.run.paths.checkpoints.glob("step_*"))
    other = tmp_path / "hard-only.yaml"
    other.write_text("task: {kind: countdown, half: hard, trace_hit_frac: 0.4}\n")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "e3mega.cli", "eval", str(run_dir), str(newest)),
            *("--task", "countdown-3", "--task", str(other), "--budgets", "32,64,128"),
            *("--problems", "16", "--samples", "2", "--seed", "3"),
            *("--cache", str(tmp_path / "cache"), "--out", str(tmp_path / "out")),
        ],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    name = f"{run_dir.name}-{newest.name}"
    assert f"{name}: 0 tokens generated" in done.stdout, done.stdout
    chosen = finished.last("budget_decision")["chosen"]
    for each in (run_dir.name, name):
        events = read_run(tmp_path / "out" / each).of("evaluation")
        assert {event["benchmark"] for event in events} == {"countdown-3", "hard-only"}
        assert {event["num_problems"] for event in events} >= {16}
        assert all(event["training_budget"] == chosen for event in events if chosen == 64)
    first, second = (read_run(tmp_path / "out" / each) for each in (run_dir.name, name))
    curves = [[event["accuracy"] for event in run.of("evaluation")] for run in (first, second)]
    assert curves[0] == curves[1]
