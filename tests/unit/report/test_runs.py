"""Reading a run folder: repeated, torn and missing events, and which runs share a line."""

import json
import math
from pathlib import Path

import pytest

from e3mega.errors import RecordError
from e3mega.plan.paths import RunPaths
from e3mega.report.runs import cohorts_of, number, numbers, read_run


def _write(run_dir: Path, *events: dict[str, object], tail: str = "") -> Path:
    path = RunPaths(run_dir).metrics("loop")
    path.parent.mkdir(parents=True)
    path.write_text("".join(json.dumps(event) + "\n" for event in events) + tail)
    return run_dir


def _started(name: str, seed: int) -> dict[str, object]:
    return {"time": 1.0, "event": "run_started", "name": name, "seed": seed}


def test_the_last_record_of_a_repeated_step_wins(tmp_path: Path) -> None:
    steps = [(1, 0.5), (2, 0.4), (3, 0.3), (2, 0.44), (3, 0.33), (4, 0.22)]
    events = [
        {"time": float(i), "event": "step", "stage": "easy", "step": step, "loss": loss}
        for i, (step, loss) in enumerate(steps)
    ]
    run = read_run(_write(tmp_path / "run", _started("a", 1), *events))
    losses = [(number(event, "step"), number(event, "loss")) for event in run.of("step")]
    assert losses == [(1, 0.5), (2, 0.44), (3, 0.33), (4, 0.22)]


def test_a_resumed_stage_keeps_the_version_where_it_began(tmp_path: Path) -> None:
    events = [
        {"time": at, "event": "stage_started", "stage": "easy", "index": 1, "mode": "rl",
         "budget_tokens": 64, "version": version}
        for at, version in ((1.0, 300), (2.0, 320))
    ]  # fmt: skip
    (stage,) = read_run(_write(tmp_path / "run", *events)).training_stages
    assert stage.start_version == 300


def test_a_torn_last_line_is_passed_over(tmp_path: Path) -> None:
    step = {"time": 2.0, "event": "step", "step": 1, "loss": 0.5}
    run_dir = _write(tmp_path / "run", _started("a", 1), step, tail='{"time": 3.0, "event": "st')
    assert len(read_run(run_dir).of("step")) == 1


def test_what_is_no_number_reads_as_nan() -> None:
    event = {"a": None, "b": "x", "c": True, "d": 2, "e": [1, None, "x"]}
    assert [math.isnan(number(event, key)) for key in "abcz"] == [True] * 4
    assert number(event, "d") == 2.0
    assert [math.isnan(value) for value in numbers(event, "e")] == [False, True, True]
    assert numbers(event, "d") == [] == numbers(event, "z")


def test_a_pause_between_kill_and_resume_is_no_working_time(tmp_path: Path) -> None:
    times = [0.0, 10.0, 25.0, 100_000.0, 100_005.0]
    events = [{"time": at, "event": "checkpoint", "version": at} for at in times]
    assert read_run(_write(tmp_path / "run", *events)).seconds == 30.0


def test_seeds_of_one_name_share_a_line_and_repeats_do_not(tmp_path: Path) -> None:
    named = [("a", 1), ("a", 2), ("b", 1), ("c", 1), ("c", 1)]
    runs = [
        read_run(_write(tmp_path / f"run{index}", _started(name, seed)))
        for index, (name, seed) in enumerate(named)
    ]
    cohorts = [(cohort.label, len(cohort.runs)) for cohort in cohorts_of(runs)]
    assert cohorts == [("a (2 seeds)", 2), ("b", 1), ("run3", 1), ("run4", 1)]


def test_a_folder_without_metrics_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"loop\.jsonl"):
        read_run(tmp_path)
