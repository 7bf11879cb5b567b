"""A sweep brings each of its runs to its end once, whatever interrupts it; fakes do the work."""

from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from e3mega.errors import E3Error
from e3mega.plan.paths import RunPaths, sweep_report
from e3mega.plan.planfile import JobPlan, Plan, Role
from e3mega.plan.prefixes import SweepRun
from e3mega.plan.sweep import Axis, expand_sweep
from e3mega.rollout.shared import read_shared
from e3mega.run.sweep import run_sweep
from e3mega.spec.resolve import find_spec
from tests.unit.run.fake_runs import attempts_of

WEIGHTS = Axis("loss.sign.negative.weight", (0.5, 1.0), is_fragments=False)
SHARED, FIRST, SECOND = (
    f"quickstart-small-{name}" for name in ("shared-1", "weight-0_5", "weight-1_0")
)


def with_fake_loop(plan: Plan) -> Plan:
    """The plan with one job: the real loop among fakes."""
    argv = ("{python}", "-m", "tests.unit.run.sweep_job", "{run_dir}")
    job = JobPlan("loop", Role.LOOP, argv, {"PYTHONPATH": str(Path(__file__).parents[3])}, 0)
    return replace(plan, jobs=(job,))


def runs_in(folder: Path) -> list[SweepRun]:
    """The sweep that the tests run: a warm-up and two runs behind it."""
    expanded = expand_sweep(find_spec("quickstart-small"), (WEIGHTS,), folder)
    return [replace(run, plan=with_fake_loop(run.plan)) for run in expanded]


def run(folder: Path) -> tuple[int, str]:
    """One call of the sweep: its exit status and what it printed."""
    console = Console(record=True, width=160)
    status = run_sweep(runs_in(folder), folder, console)
    return status, console.export_text()


def test_a_sweep_goes_on_where_it_was_killed_and_runs_nothing_twice(tmp_path: Path) -> None:
    (tmp_path / f"kill-{FIRST}").touch()
    status, text = run(tmp_path)
    assert status == 1
    assert f"{FIRST} is not finished" in text
    status, text = run(tmp_path)
    assert status == 0, text
    assert text.count("finished before") == 2
    exits = {name: [a["exit"] for a in attempts_of(tmp_path / name)] for name in (SHARED, SECOND)}
    assert exits == {SHARED: [0], SECOND: [0]}
    assert [attempt["exit"] for attempt in attempts_of(tmp_path / FIRST)] == [1, 0]
    for name in (FIRST, SECOND):
        shared = read_shared(RunPaths(tmp_path / name))
        assert shared is not None and (shared.name, shared.stages) == (SHARED, ("warmup",))
    page = sweep_report(tmp_path).read_text()
    assert "Runs beside each other" in page
    for word in ("loss.sign.negative.weight", "0.5", f"warmup of {SHARED}", "spent h", "planned h"):
        assert word in page and word in text, word
    assert "3 runs: " in text


def test_what_begins_behind_a_failed_run_is_not_started(tmp_path: Path) -> None:
    (tmp_path / f"fail-{SHARED}").touch()
    status, text = run(tmp_path)
    assert status == 1
    assert f"{SECOND} is not finished: begins behind {SHARED}" in text
    assert not RunPaths(tmp_path / FIRST).plan.exists()


def test_a_folder_with_a_run_of_another_spec_is_refused(tmp_path: Path) -> None:
    runs = runs_in(tmp_path)
    other = RunPaths(tmp_path / SHARED)
    other.run_dir.mkdir()
    changed = replace(runs[0], plan=replace(runs[0].plan, run_fingerprint="0" * 64))
    (tmp_path / f"fail-{SHARED}").touch()
    run_sweep([changed], tmp_path, Console(quiet=True))
    with pytest.raises(E3Error, match="choose another folder with --out"):
        run_sweep(runs, tmp_path, Console(quiet=True))
