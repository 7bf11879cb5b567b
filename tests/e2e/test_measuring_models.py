"""``e3mega asymmetry`` and ``e3mega grade`` on a model's folder, with real servers."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from e3mega.plan.paths import GradePaths
from e3mega.tasks.text_problems import read_problems
from tests.e2e.trained_model import write_trained_model

pytestmark = pytest.mark.e2e
NUM_PROBLEMS = 48


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_trained_model(tmp_path_factory.mktemp("trained") / "model")


def command(name: str, model_dir: Path, out: Path, *words: str) -> list[str]:
    line = [sys.executable, "-m", "e3mega.cli", name, str(model_dir), "--task", "countdown-3"]
    return [*line, "--out", str(out), "--temperature", "1", "--top-p", "1", *words]


def test_asymmetry_measures_a_model(model_dir: Path, tmp_path: Path) -> None:
    words = ("--problems", "6", "--samples", "2", "--max-tokens", "48", "--attempts", "2,4")
    answers = ("--answers", "2", "--answer-tokens", "8", "--cache", str(tmp_path / "cache"))
    line = command("asymmetry", model_dir, tmp_path, *words, *answers)
    done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "Checking against solving" in done.stdout
    found = json.loads(GradePaths(tmp_path).asymmetry.read_text())
    assert found["num_completions"] == 12
    assert [row["num_attempts"] for row in found["chained"]] == [2, 4]
    assert [point["k"] for point in found["chained"][0]["points"]] == [1, 2, 4]
    assert all(0 <= point["pass_at_k"] <= 1 for row in found["chained"] for point in row["points"])
    assert found["num_generated_tokens"] > 12
    # Its warm-up ended when it recognised more than .95 of held-out hits and of misses.
    measured = found["asymmetry"]
    assert measured["verification"]["value"] > 0.9 > 0.5 > measured["generation"]["value"]
    assert measured["gap"]["low"] > 0
    start = time.monotonic()
    again = subprocess.run(line, capture_output=True, text=True, check=True, timeout=300)
    assert "\n0 tokens generated" in again.stdout, "nothing is missing, so no server starts"
    assert time.monotonic() - start < 60
    repeated = json.loads(GradePaths(tmp_path).asymmetry.read_text())
    assert repeated["chained"] == found["chained"] and repeated["asymmetry"] == found["asymmetry"]


@pytest.mark.slow
def test_a_killed_grading_goes_on_and_generates_nothing_twice(
    model_dir: Path, tmp_path: Path
) -> None:
    sizes = ("--samples", "4", "--max-tokens", "400", "--max-problems", str(NUM_PROBLEMS))
    line = command("grade", model_dir, tmp_path, *sizes)
    journal = GradePaths(tmp_path).journal
    first = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while _num_lines(journal) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    below = psutil.Process(first.pid).children(recursive=True)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    _, alive = psutil.wait_procs(below, timeout=60)
    assert alive == [], "the servers die with the command"
    before = journal.read_bytes()
    done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert journal.read_bytes().startswith(before[: before.rfind(b"\n") + 1])
    lines = journal.read_bytes().splitlines()[1:]
    indices = [json.loads(each)["index"] for each in lines if each.endswith(b"}")]
    assert sorted(indices) == list(range(NUM_PROBLEMS))
    problems = read_problems(str(GradePaths(tmp_path).problems))
    assert len(problems.training) == NUM_PROBLEMS
    assert all(each.pass_rate is not None for each in problems.training)


def _num_lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0
