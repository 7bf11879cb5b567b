"""Faults of processes and machines on runs of small scripts: what is told, what goes on."""

import contextlib
import json
import os
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from e3mega.metrics import read_metrics
from e3mega.plan.paths import RunPaths
from e3mega.rollout.whole_file import write_whole
from e3mega.run.board import Board, NodeReport, read_report
from e3mega.run.local import start_run
from e3mega.run.views.status import read_status, state_words
from e3mega.run.watchdog import Watchdog
from tests.unit.run.fake_runs import (
    LEAVES,
    STEADY,
    WAITS,
    attempts_of,
    finish,
    processes_of,
    wait_for,
)
from tests.unit.run.fault_runs import DIES, TWO_SERVERS, Started, marks, planned, until


def told(run_dir: Path, name: str) -> list[str]:
    """Reasons of the supervisor's events of a kind."""
    path = RunPaths(run_dir).metrics("supervisor")
    return [str(e.get("reason", "")) for e in read_metrics(path) if e["event"] == name]


def test_a_server_that_dies_is_started_again(started: Started) -> None:
    server = f"if len(list(run_dir.glob('ran_generation_0__*'))) == 1: {DIES}" + WAITS
    scripts = {"generation_0": server, "learner": LEAVES, "loop": until("generation_0", 2)}
    command = started.run(planned(scripts, max_restarts=1))
    finish(command)
    assert command.returncode == 0
    (reason,) = told(started.run_dir, "server_restarted")
    assert reason.startswith("job generation_0 was killed by SIGKILL")


def test_a_server_that_dies_too_often_ends_the_run(started: Started) -> None:
    # What it once logged does not explain a signal from outside.
    server = f"print('ValueError: met and mended', flush=True)\n{DIES}"
    command = started.run(planned({**STEADY, "generation_0": server}, max_restarts=2))
    assert "job generation_0 was killed by SIGKILL (log: " in finish(command)[-1]
    assert marks(started.run_dir, "generation_0") == 3


def test_one_dead_server_of_two_does_not_stop_the_run(started: Started) -> None:
    scripts = {**TWO_SERVERS, "generation_1": DIES, "learner": LEAVES, "loop": "time.sleep(2)\n"}
    command = started.run(planned(scripts))
    finish(command)
    assert command.returncode == 0


def test_the_address_of_a_server_that_ended_is_withdrawn(started: Started) -> None:
    """From that the loop learns of its end, though it asks it nothing."""
    path = "run_dir / 'addresses' / 'generation_1.json'"
    address = json.dumps({"host": "127.0.0.1", "port": 9, "pid": 0})
    server = f"({path}).parent.mkdir(exist_ok=True)\n({path}).write_text('{address}')\n"
    server += f"while not (run_dir / 'seen').exists(): time.sleep(0.02)\n{DIES}"
    loop = (
        f"while not ({path}).exists(): time.sleep(0.02)\n"
        "(run_dir / 'seen').touch()\n"
        f"while ({path}).exists(): time.sleep(0.02)\n"
    )
    command = started.run(
        planned({**TWO_SERVERS, "generation_1": server, "learner": LEAVES, "loop": loop})
    )
    lines = finish(command)
    assert command.returncode == 0, lines
    assert not started.paths.address(1).exists()
    (reason,) = told(started.run_dir, "server_ended")
    assert reason.startswith("job generation_1 was killed by SIGKILL")


def test_what_a_killed_server_forked_does_not_outlive_it(started: Started) -> None:
    """It would hold the server's port: who asks then waits instead of being refused."""
    fork = (
        "if os.fork() == 0:\n"
        "    (run_dir / 'child').write_text(str(os.getpid()))\n"
        "    while True: time.sleep(1)\n"
    )
    server = f"{fork}time.sleep(5)\n{DIES}"
    loop = (
        "import psutil\nwhile not (run_dir / 'child').exists(): time.sleep(0.02)\n"
        "pid = int((run_dir / 'child').read_text())\n"
        "while psutil.pid_exists(pid): time.sleep(0.02)\n"
    )
    scripts = {**TWO_SERVERS, "generation_1": server, "learner": LEAVES, "loop": loop}
    command = started.run(planned(scripts))
    finish(command)
    assert command.returncode == 0


def test_a_server_that_the_loop_gave_up_is_killed_and_started_again(started: Started) -> None:
    loop = (
        until("generation_1", 1) + "import json\n"
        "pid = int(next(run_dir.glob('ran_generation_1__*')).name.split('_')[-1])\n"
        "event = dict(time=1, event='server_lost', server=1, reason='no answer in 5 s', pid=pid)\n"
        "print(json.dumps(event), file=open(run_dir / 'metrics' / 'loop.jsonl', 'a'))\n"
        + until("generation_1", 2)
    )
    scripts = {**TWO_SERVERS, "learner": LEAVES, "loop": loop}
    command = started.run(planned(scripts, max_restarts=1))
    finish(command)
    assert command.returncode == 0
    (reason,) = told(started.run_dir, "server_restarted")
    assert reason == "job generation_1 was given up: no answer in 5 s"
    assert marks(started.run_dir, "generation_0") == 1


def test_a_killed_learner_begins_again_with_the_loop_and_the_same_servers(
    started: Started,
) -> None:
    learner = f"if sys.argv[2] == '0': {DIES}"
    loop = f"if sys.argv[2] == '0': {WAITS}"
    command = started.run(
        planned({"generation_0": WAITS, "learner": learner, "loop": loop}, max_restarts=1)
    )
    finish(command)
    assert command.returncode == 0
    counts = {job: marks(started.run_dir, job) for job in STEADY}
    assert counts == {"generation_0": 1, "learner": 2, "loop": 2}
    first, second = attempts_of(started.run_dir)
    assert (first["exit"], second["exit"]) == (1, 0)
    assert "job learner was killed by SIGKILL" in str(first["reason"])


def test_a_learner_that_says_why_it_left_is_not_started_again(started: Started) -> None:
    says = 'print(\'{"reason": "the gradient of layer 3 is nan"}\')\nsys.exit(1)\n'
    command = started.run(planned({**STEADY, "learner": says}, max_restarts=3))
    assert "the gradient of layer 3 is nan" in finish(command)[-1]
    assert marks(started.run_dir, "learner") == 1


def test_a_run_that_stands_still_ends_with_the_stacks_of_its_processes(started: Started) -> None:
    command = started.run(planned(STEADY, progress_deadline_s=4.0))
    lines = finish(command)
    assert "no progress for" in lines[-1]
    stacks = started.paths.stacks(0).read_text()
    # py-spy may not be allowed to look; then it says so for each process.
    assert stacks.count("=== ") >= 3
    assert "<module>" in stacks or "no stack" in stacks


def test_files_that_change_their_time_but_not_their_size_are_no_progress(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path)
    write_whole(paths.metrics("loop"), b"{}\n")
    dog = Watchdog(paths, 0.2)
    assert dog.stalled_s() is None
    os.utime(paths.metrics("loop"), (1, 2_000_000_000))
    time.sleep(0.3)
    assert dog.stalled_s() is not None


def test_a_clock_that_jumps_makes_no_node_silent(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path)
    board = Board(paths, "a")
    for beat, clock in enumerate((1e9, 3e9, 0.0)):
        board.publish(NodeReport("a", 1, "n1", 7, 0, beat, clock, ()))
        assert board.report(1) is not None
        assert board.silent_s(1) < 1.0
    board.publish(NodeReport("of another launch", 1, "n1", 7, 0, 9, 1e9, ()))
    assert board.report(1) is None


def test_a_request_to_stop_has_the_loop_leave_at_a_checkpoint(started: Started) -> None:
    loop = "signal.signal(signal.SIGUSR1, lambda *_: sys.exit(75))\n(run_dir / 'up').touch()\n"
    learner = "while not (run_dir / 'stop').exists(): time.sleep(0.02)\n"
    command = started.run(
        planned({"generation_0": WAITS, "learner": learner, "loop": loop + WAITS})
    )
    wait_for((started.run_dir / "up").exists)
    assert state_words(read_status(started.run_dir)) == "runs"
    started.paths.stop_request.touch()
    assert "e3mega stop asked for it" in finish(command)[-1]
    assert command.returncode == 75
    assert state_words(read_status(started.run_dir)).startswith("left: left at a checkpoint")


@pytest.mark.parametrize(
    ("number", "status", "words"),
    [
        (signal.SIGUSR1, 75, "left at a checkpoint: its time on the machine ends"),
        (signal.SIGTERM, 143, "stopped by SIGTERM"),
    ],
)
@pytest.mark.parametrize("is_starting", [False, True])
def test_a_signal_that_slurm_sends_to_every_process_is_one_to_the_run(
    started: Started, number: int, status: int, words: str, is_starting: bool
) -> None:
    """It reaches jobs before the supervisor, and jobs that know nothing of it."""
    leaves = (
        "signal.signal(signal.SIGUSR1, lambda *_: ((run_dir / 'left').touch(), sys.exit(75)))\n"
    )
    loop = ("" if is_starting else leaves) + "(run_dir / 'up').touch()\n" + WAITS
    learner = "while not (run_dir / 'left').exists(): time.sleep(0.02)\n"
    command = started.run(planned({"generation_0": WAITS, "learner": learner, "loop": loop}))
    wait_for((started.run_dir / "up").exists)
    wait_for(lambda: all(marks(started.run_dir, job) for job in STEADY))
    wait_for(started.paths.node_report(0).exists)
    report = read_report(started.paths.node_report(0))
    assert report is not None
    for pid in (*(job.pid for job in report.jobs), report.pid, command.pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
    lines = finish(command)
    assert command.returncode == status, lines
    assert words in lines[-1]


def test_a_loop_that_does_not_leave_in_time_is_stopped(started: Started) -> None:
    deaf = "signal.signal(signal.SIGUSR1, signal.SIG_IGN)\n(run_dir / 'up').touch()\n"
    command = started.run(planned({**STEADY, "loop": deaf + WAITS}, leave_deadline_s=1.0))
    wait_for((started.run_dir / "up").exists)
    command.send_signal(signal.SIGUSR1)
    assert "but the loop did not within 1 s" in finish(command)[-1]


def test_an_interpreter_that_is_not_there_is_told(started: Started) -> None:
    plan = planned(STEADY)
    jobs = tuple(
        replace(job, argv=("/nowhere/python", *job.argv[1:])) if job.name == "loop" else job
        for job in plan.jobs
    )
    line = finish(started.run(replace(plan, jobs=jobs)))[-1]
    assert "job loop cannot be started: /nowhere/python: No such file" in line


def test_a_folder_that_takes_no_file_is_told_before_anything_starts() -> None:
    with pytest.raises(Exception, match="cannot write the run folder /proc/e3mega-run"):
        start_run(planned(STEADY), "seed: 1\n", Path("/proc/e3mega-run"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a disk that is full soon")
def test_a_full_disk_is_named_and_nothing_stays(started: Started) -> None:
    started.run_dir.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(started.run_dir)], check=True
    )
    try:
        fills = "open(run_dir / 'big', 'wb').write(bytes(1 << 20))\n"
        lines = finish(started.run(planned({**STEADY, "loop": fills})))
        assert "No space left on device; free space" in lines[-1]
        assert processes_of(started.run_dir) == []
    finally:
        subprocess.run(["umount", "-l", str(started.run_dir)], check=True)
