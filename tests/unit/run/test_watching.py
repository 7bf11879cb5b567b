"""Commands that read a run's folder: status, list, logs, stop; and the doctor."""

import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from e3mega.cli import main
from e3mega.launch.record import LaunchRecord, write_record
from e3mega.metrics import MetricsWriter
from e3mega.plan.paths import RunPaths
from e3mega.plan.planfile import Role
from e3mega.rollout.ledger import Amount, DiscardReason, Ledger
from e3mega.run.attempts import begin_attempt, end_attempt
from e3mega.run.board import Board, JobReport
from e3mega.run.creation import create_folder
from e3mega.run.doctor import check_machine, check_meeting
from e3mega.run.station import Station
from tests.unit.run.fake_runs import STEADY, fake_plan

TIME_ENDS = "left at a checkpoint: its time on the machine ends"
EASY = (
    Ledger()
    .redraw(1)
    .issue(8)
    .answer(8, Amount(80, 7000), truncated=Amount(5, 500))
    .train(Amount(60, 6000), lag=0)
    .evaluate(Amount(10, 700))
    .discard(Amount(10, 300), DiscardReason.FLAT)
)
LEDGER = (
    EASY.issue(4)
    .answer(4, Amount(40, 135_000), truncated=Amount())
    .train_supervised(Amount(90, 9000))
)


@pytest.fixture
def paths(tmp_path: Path) -> RunPaths:
    """A run that trains: one round done, its supervisor alive a moment ago."""
    paths = RunPaths(tmp_path / "runs" / "fake")
    paths.run_dir.mkdir(parents=True)
    create_folder(fake_plan(STEADY), "seed: 1\n", paths)
    begin_attempt(paths.exit_reason)
    metrics = MetricsWriter(paths.metrics("loop"))
    metrics.write("run_started", name="fake", attempt=0)
    metrics.write("stage_started", stage="easy", budget_tokens=64)
    values = {"step": 1, "stage_step": 1, "stage_max_steps": 10, "round": 0}
    metrics.write("step", stage="easy", tokens_generated=400, tokens_trained=300, **values)
    metrics.write("round", stage="easy", round=0, total_s=2.0)
    metrics.write(
        "ledger", **json.loads(LEDGER.to_json()), stages={"easy": json.loads(EASY.to_json())}
    )
    metrics.write("server_lost", server=0, reason="no answer within 5 s", pid=1)
    metrics.close()
    jobs = (JobReport("loop", Role.LOOP, 7, None, 0.0, 0),)
    Station(paths, node=0, launch="a").beat(0, jobs)
    return paths


def test_status_shows_what_a_run_does(paths: RunPaths, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", str(paths.run_dir)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for words in (
        "fake: runs",
        "easy",
        "1/10",
        "2.0 s, 200 generated and 150 trained tokens/s",
        "ledger issued answered lost generated truncated trained evaluated discarded",
        "easy 9 8 1 7000 500 6000 700 300",
        "run 13 12 1 142k 500 6000 700 300",
        "discarded as flat: 300; 1 prompts sent again; 9000 tokens of given traces trained on",
        "server 0 is lost: no answer within 5 s",
        "loop 0",
    ):
        assert words in shown, words


def test_a_supervisor_that_is_silent_is_told(
    paths: RunPaths, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import time

    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 3600)
    assert main(["status", str(paths.run_dir)]) == 0
    assert "silent for 1:00:00: perhaps killed" in capsys.readouterr().out


def test_a_machine_whose_clock_is_ahead_sees_a_run_that_reports(
    paths: RunPaths, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The supervisor is on another machine, with another clock."""
    import time

    real = time.time
    station = Station(paths, node=0, launch="a")
    monkeypatch.setattr(time, "time", lambda: real() - 3600)
    station.beat(0, ())
    monkeypatch.setattr(time, "time", real)
    later = threading.Timer(1.0, lambda: station.beat(0, (), reason="reported again"))
    later.start()
    assert main(["status", str(paths.run_dir)]) == 0
    later.join()
    shown = capsys.readouterr().out
    assert "fake: runs" in shown and "silent" not in shown


def test_a_list_of_long_reasons_stays_one_line_a_run(
    paths: RunPaths, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    end_attempt(
        paths.exit_reason, reason="job learner exited " + "for a long reason " * 9, exit_code=1
    )
    assert main(["list", str(paths.run_dir.parent)]) == 0
    head, row = capsys.readouterr().out.splitlines()
    assert head.split() == ["run", "stage", "steps", "attempts", "state"]
    assert row.split()[:5] == ["fake", "easy", "1", "1", "stopped:"]
    assert len(row) <= 80


def test_a_step_that_says_less_is_listed_with_what_it_says(
    paths: RunPaths, capsys: pytest.CaptureFixture[str]
) -> None:
    """As those of an earlier version."""
    with paths.metrics("loop").open("a") as file:
        file.write('{"time": 9e9, "event": "step", "stage": "easy", "step": 7}\n')
    assert main(["list", str(paths.run_dir.parent)]) == 0
    row = capsys.readouterr().out.splitlines()[-1].split()
    assert row == ["fake", "easy", "1", "1", "runs"]


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("plan.json", "{}", "of another version of e3mega"),
        ("plan.json", "\0\0", "of another version of e3mega"),
        ("attempts.jsonl", '{"what": 1}\n', "cannot be read: TypeError"),
        ("metrics/loop.jsonl", '{"time": 1}\n', "cannot be read: KeyError"),
        ("metrics/loop.jsonl", '{"time": 1, "event": "evaluation"}\n', "cannot be read: KeyError"),
        ("metrics/loop.jsonl", "\xff", "cannot be read: UnicodeDecodeError"),
    ],
)
def test_a_folder_that_cannot_be_read_is_listed_as_such(
    paths: RunPaths, capsys: pytest.CaptureFixture[str], file: str, text: str, words: str
) -> None:
    (paths.run_dir / file).write_bytes(text.encode("latin-1"))
    alien = paths.run_dir.with_name("alien")
    (alien / "plan.json").mkdir(parents=True)
    assert main(["list", str(paths.run_dir.parent)]) == 0
    _, first, second = capsys.readouterr().out.splitlines()
    assert first.split()[0] == "alien" and "cannot be read: IsADirectoryError" in first
    assert second.split()[0] == "fake" and words in second


def test_list_shows_every_run_below_a_folder(
    paths: RunPaths, capsys: pytest.CaptureFixture[str]
) -> None:
    end_attempt(paths.exit_reason, reason="finished", exit_code=0)
    assert main(["list", str(paths.run_dir.parent)]) == 0
    row = capsys.readouterr().out.splitlines()[-1].split()
    assert row[1:] == ["easy", "1", "1", "finished"]


def test_logs_shows_the_end_of_a_job_and_names_those_there_are(
    paths: RunPaths, capsys: pytest.CaptureFixture[str]
) -> None:
    log = paths.log("learner")
    log.parent.mkdir()
    log.write_text("".join(f"line {number}\n" for number in range(50)))
    assert main(["logs", str(paths.run_dir), "learner", "--lines", "2"]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == ["line 48", "line 49"]
    assert main(["logs", str(paths.run_dir), "lerner"]) == 1
    assert "there are learner" in capsys.readouterr().err


def test_stop_asks_a_run_and_says_when_there_is_nothing_to_ask(
    paths: RunPaths, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["stop", str(paths.run_dir), "--no-wait"]) == 0
    assert paths.stop_request.exists()
    paths.stop_request.unlink()
    end_attempt(paths.exit_reason, reason="left at a checkpoint", exit_code=75)
    assert main(["stop", str(paths.run_dir)]) == 0
    assert not paths.stop_request.exists()
    assert "does not run: left: left at a checkpoint" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("launch", "handles", "jobs", "reason", "is_followed"),
    [
        ("fake-1-0.0", ("7", "8"), 2, TIME_ENDS, True),
        ("fake-1-1.0", ("7", "8"), 2, TIME_ENDS, False),
        ("fake-1-0.0", ("7", "8"), 2, "left at a checkpoint: e3mega stop asked for it", False),
        ("fake-1-0.0", ("7",), 2, TIME_ENDS, True),
        ("fake-1-0.1", ("7",), 2, TIME_ENDS, False),
        ("fake-1-0.0", ("7",), 1, TIME_ENDS, False),
        ("fake-0-0.0", ("7",), 1, "stopped by SIGTERM", True),
        ("fake-0-0.0", (), 1, "stopped by SIGTERM", False),
    ],
    ids=[
        *("chain", "last of a chain", "stopped", "queue again", "queued as often as may be"),
        *("no chain", "submitted again", "taken by no scheduler"),
    ],
)
def test_watch_follows_a_run_from_job_to_job(
    paths: RunPaths,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    launch: str,
    handles: tuple[str, ...],
    jobs: int,
    reason: str,
    is_followed: bool,
) -> None:
    """Until an attempt ends behind which none may come."""
    # Elsewhere than on a terminal only the last view is printed.
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("FORCE_COLOR", "1")
    write_record(paths, LaunchRecord("site.yaml", "fake-1", handles, jobs))
    Board(paths, launch).give_order(attempt=0)
    status = 143 if "SIGTERM" in reason else 75
    end_attempt(paths.exit_reason, reason=reason, exit_code=status)
    words = ["watch", str(paths.run_dir), "--every", "0.05"]
    with ThreadPoolExecutor(1) as pool:
        watch = pool.submit(main, words)
        if is_followed:
            with pytest.raises(TimeoutError):
                watch.result(1.0)
            begin_attempt(paths.exit_reason)
            Board(paths, "fake-1-9.9").give_order(attempt=1)
            end_attempt(paths.exit_reason, reason="finished", exit_code=0)
        assert watch.result(30.0) == (0 if is_followed else status)
    assert ("waits for its next job; 1 to come" in capsys.readouterr().out) == is_followed


def test_the_doctor_finds_what_is_wrong(tmp_path: Path) -> None:
    bad = {finding.what: finding for finding in check_machine(Path("/proc/runs"), "nowhere0")}
    assert not bad["run folder"].is_good and not bad["address"].is_good
    good = {finding.what: finding for finding in check_machine(tmp_path / "runs", None)}
    for what in ("Python", "torch", "vLLM", "atomic rename", "file modes", "address", "ports"):
        assert good[what].is_good, good[what].line()


def test_the_doctor_has_tasks_meet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("e3mega.run.doctor._MEET_DEADLINE_S", 60.0)
    child = os.fork()
    os.environ["SLURM_PROCID"] = "0" if child else "1"
    try:
        findings = check_meeting(tmp_path, "a", 2, None)
        if child == 0:
            os._exit(0 if all(finding.is_good for finding in findings) else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert len(findings) == 4 and all(finding.is_good for finding in findings)
        assert findings[-1].found.startswith("2 tasks added 4 MiB over gloo")
    finally:
        if child == 0:
            os._exit(2)
        del os.environ["SLURM_PROCID"]
    monkeypatch.setattr("e3mega.run.doctor._MEET_DEADLINE_S", 0.2)
    (alone,) = check_meeting(tmp_path, "b", 2, None)
    assert not alone.is_good and "tasks 1 did not write" in alone.found
