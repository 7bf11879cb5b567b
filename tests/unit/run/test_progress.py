"""What a person sees of a run, from recorded events."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from e3mega.run.views.display import PlainDisplay, render, stage_line
from e3mega.run.views.progress import Event, Progress, duration
from e3mega.run.views.summary import accuracy_table
from e3mega.run.views.tail import MetricsTail
from tests.unit.run.fake_runs import STEADY, fake_plan


def warm_up_events() -> list[Event]:
    """Nine steps of a supervised stage, three seconds each, the first after attempt 0's."""
    events: list[Event] = [
        {"time": 0.0, "event": "run_started", "name": "fake", "attempt": 0},
        {"time": 1.0, "event": "stage_started", "stage": "warm-up", "budget_tokens": None},
    ]
    for step in range(1, 10):
        values: Event = {
            "step": step,
            "stage_step": step,
            "stage_max_steps": 12,
            "loss": 2.0 / step,
        }
        time = 100.0 + 3.0 * step
        events.append({"time": time, "event": "step", "stage": "warm-up", **values})
    events.append(
        {"time": 130.0, "event": "recognition", "stage": "warm-up", "hit_frac": 0.875, "step": 9}
    )
    return events


def rl_events() -> list[Event]:
    """One step of an RL stage and its round."""
    values: Event = {
        "step": 10,
        "stage_step": 1,
        "stage_max_steps": 10,
        "reward_mean": 0.25,
        "num_rollouts": 8,
        "tokens_generated": 400,
        "attempts_correct": 2.0,
        "attempts_incorrect": 6.0,
        "entropy": float("nan"),
        "truncated_frac": 0.5,
    }
    return [
        {"time": 9.0, "event": "stage_started", "stage": "easy", "budget_tokens": 64},
        {"time": 10.0, "event": "step", "stage": "easy", **values},
        {"time": 10.0, "event": "round", "stage": "easy", "total_s": 1.75},
    ]


def seen(events: list[Event]) -> Progress:
    progress = Progress(fake_plan(STEADY))
    for event in events:
        progress.observe(event)
    return progress


def drawn(renderable: object) -> list[str]:
    console = Console(file=io.StringIO(), width=80, force_terminal=False)
    console.print(renderable)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_a_supervised_stage_shows_steps_time_left_loss_and_recognition() -> None:
    # 9 of 12 steps, 3 s a step: 9 s are left. Loss of step 9: 2 / 9.
    stage = seen(warm_up_events()).stages["warm-up"]
    assert stage_line(stage) == "warm-up step 9/12, loss 0.222, recognition 0.88, ETA 00:09"


def test_an_rl_stage_shows_means_over_all_rollouts_and_no_number_that_is_not_finite() -> None:
    # Length 400 / 8; attempts: a quarter correct with 2, three quarters incorrect with 6.
    line = stage_line(seen(rl_events()).stages["easy"])
    assert line == (
        "easy step 1/10, reward 0.250, length 50, attempts 5.0, truncated 0.50, s/round 1.8"
    )


@pytest.mark.parametrize(
    ("version", "steps"), [(4, (4, 0)), (9, (9, 0)), (10, (9, 1)), (None, (0, 0))]
)
def test_a_resumed_attempt_shows_the_steps_of_its_checkpoint(
    version: int | None, steps: tuple[int, int]
) -> None:
    # The warm-up made versions 1 to 9, the first RL stage version 10.
    events = [*warm_up_events(), *rl_events()]
    events.append({"time": 900.0, "event": "run_started", "name": "fake", "attempt": 1})
    if version is not None:
        events.append({"time": 900.0, "event": "attempt_resumed", "version": version})
    events.append({"time": 901.0, "event": "checkpoint"})
    stages = seen(events).stages
    assert (stages["warm-up"].step, stages["easy"].step) == steps
    assert stages["warm-up"].seconds_left() is None


def test_the_panel_fits_eighty_columns_and_names_what_starts() -> None:
    progress = seen([*warm_up_events(), *rl_events()])
    lines = drawn(render(progress, {"generation_0": 41.0}, title="fake", elapsed_s=3725.0))
    assert all(len(line) <= 80 for line in lines)
    assert lines[0].endswith("1:02:05")
    assert any(line.startswith("warm-up") and "9/12" in line for line in lines)
    assert any(line.startswith("easy") and "1/10" in line and "64 tokens" in line for line in lines)
    assert "generation_0 starts, 00:41 so far" in lines[-1]


def test_no_number_is_parted_from_its_name_where_the_panel_breaks_a_line() -> None:
    events = rl_events()
    events[1] = {**events[1], "entropy": 0.31}
    events[2] = {**events[2], "total_s": 123.4}
    lines = drawn(render(seen(events), {}, title="fake", elapsed_s=1.0))
    assert any("s/round 123.4" in line for line in lines), lines
    assert max(map(len, lines)) <= 80


def test_plain_output_has_a_line_for_each_event_and_one_a_period() -> None:
    console = Console(file=io.StringIO(), width=80)
    display = PlainDisplay(console, period_s=0.0)
    progress = seen(warm_up_events())
    display.show(progress, warm_up_events(), {"generation_0": 1.0})
    display.show(progress, [], {})
    assert isinstance(console.file, io.StringIO)
    lines = [line.split("] ", 1)[1] for line in console.file.getvalue().splitlines()]
    assert lines == [
        "generation_0 starts",
        "run fake started, attempt 0",
        "stage warm-up started",
        "warm-up step 9/12, loss 0.222, recognition 0.88, ETA 00:09",
        "generation_0 is ready",
    ]


def test_the_table_shows_the_newest_measurement_of_each_model_within_eighty_columns() -> None:
    def evaluation(label: str, name: str, first: float) -> Event:
        return {
            "event": "evaluation",
            "label": label,
            "slice": name,
            "budgets": [32, 64, 128, 256],
            "accuracy": [first, 0.5, 0.625, 0.75],
            "stderr": [0.02, 0.02, 0.02, 0.02],
            "mean_attempts": 12.25,
        }

    events = [evaluation("base", "hard", 0.5), evaluation("base", "all", 0.25)]
    events += [evaluation("base", "hard", 0.125), evaluation("warm-up", "all", 0.375)]
    lines = drawn(accuracy_table(events))
    assert all(len(line) <= 80 for line in lines)
    rows = [line.split()[:3] for line in lines[2:]]
    assert ["all", "base", "0.250±.020"] in rows
    assert ["hard", "base", "0.125±.020"] in rows
    assert len(rows) == 3


def test_a_run_without_evaluation_has_no_table() -> None:
    assert accuracy_table(warm_up_events()) is None


def test_the_tail_gives_each_whole_line_once(tmp_path: Path) -> None:
    path = tmp_path / "loop.jsonl"
    tail = MetricsTail(path)
    assert list(tail.new_events()) == []
    line = json.dumps({"event": "step", "loss": 1.5}) + "\n"
    path.write_text(line + line[:9])
    assert [event["loss"] for event in tail.new_events()] == [1.5]
    assert list(tail.new_events()) == []
    path.write_text(line + line + "torn{\n" + line)
    assert [event["loss"] for event in tail.new_events()] == [1.5, 1.5]


def test_durations_read_like_a_clock() -> None:
    assert [duration(s) for s in (0.4, 59.6, 3599.0, 3600.0)] == [
        "00:00",
        "01:00",
        "59:59",
        "1:00:00",
    ]
