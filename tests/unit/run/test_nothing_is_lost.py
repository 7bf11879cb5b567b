"""Whatever happens to a run, it goes on to the same batches, each step once, the ledger balanced.

The real loop works among fakes of the learner and the servers, under the real supervisor. A fault
comes in the middle of a round; then the run is resumed, if the fault ended it.
"""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from e3mega.plan.paths import MANIFEST
from tests.unit.run.fake_runs import STARTS, WAITS, attempts_of, finish, processes_of, wait_for
from tests.unit.run.fault_runs import Started, created, on_node_1
from tests.unit.run.halted_runs import (
    LEARNS,
    Struck,
    assert_nothing_is_lost,
    events,
    halted,
    resume,
    training_plan,
)

pytestmark = pytest.mark.slow

CLOCK = """\
import pathlib, time
real, offset = time.time, pathlib.Path({offset!r})
time.time = lambda: real() + (float(offset.read_text() or 0) if offset.exists() else 0.0)
"""
"""A clock that a file moves, in every Python process that finds this as ``sitecustomize``."""


Fault = Callable[[Struck], object]
LOOP = "tests.unit.run.training_job"
SUPERVISOR = "e3mega.run.supervisor"


def ctrl_c_twice(it: Struck) -> None:
    it.process(STARTS + LEARNS).suspend()
    it.command.send_signal(signal.SIGINT)
    assert it.command.stdout is not None
    wait_for(lambda: "stopping" in it.command.stdout.readline())
    it.command.send_signal(signal.SIGINT)


def ask_to_stop(it: Struck) -> None:
    it.started.paths.stop_request.touch()


def hang_when_asked_to_leave(it: Struck) -> None:
    it.process(LOOP).suspend()
    it.command.send_signal(signal.SIGUSR1)


FAULTS: dict[str, tuple[Fault, dict[str, float], int, str]] = {
    "the loop is killed": (lambda it: it.kill(LOOP), {}, 1, "job loop was killed by SIGKILL"),
    "the learner is killed": (
        lambda it: it.kill(STARTS + LEARNS),
        *({}, 1, "job learner was killed by SIGKILL"),
    ),
    "the last server is killed": (
        lambda it: it.kill(STARTS + WAITS),
        *({}, 1, "job generation_0 was killed by SIGKILL"),
    ),
    "the supervisor is killed": (
        lambda it: it.kill("-m", SUPERVISOR),
        *({}, 137, "the supervisor was killed by SIGKILL"),
    ),
    "the command is killed": (
        lambda it: it.command.kill(),
        *({}, 143, "the e3mega command was killed"),
    ),
    "SIGTERM": (
        lambda it: it.command.send_signal(signal.SIGTERM),
        *({}, 143, "stopped by SIGTERM"),
    ),
    "Ctrl-C": (lambda it: it.command.send_signal(signal.SIGINT), {}, 130, "stopped by Ctrl-C"),
    "Ctrl-C twice": (ctrl_c_twice, {}, 130, "stopped by Ctrl-C"),
    "e3mega stop": (ask_to_stop, {}, 75, "e3mega stop asked for it"),
    "the time ends": (
        lambda it: it.command.send_signal(signal.SIGUSR1),
        *({}, 75, "its time on the machine ends"),
    ),
    "the loop does not leave": (
        hang_when_asked_to_leave,
        *({"leave_deadline_s": 1.0}, 1, "but the loop did not within 1 s"),
    ),
    "the loop hangs": (
        lambda it: it.process(LOOP).suspend(),
        *({"progress_deadline_s": 4.0}, 1, "no progress for"),
    ),
}
"""Fault, cluster options, exit status of the attempt, words of its reason."""


@pytest.mark.parametrize("name", FAULTS)
def test_a_run_goes_on_as_if_nothing_had_happened(started: Started, whole: Path, name: str) -> None:
    fault, cluster, status, words = FAULTS[name]
    struck = halted(started, training_plan(**cluster))
    fault(struck)
    struck.command.communicate(timeout=180)
    wait_for(lambda: processes_of(started.run_dir) == [])
    (attempt,) = attempts_of(started.run_dir)
    assert attempt["exit"] == status, attempt
    assert words in str(attempt["reason"])
    code, lines = resume(started.run_dir)
    assert code == 0, lines
    assert_nothing_is_lost(started.run_dir, whole)


def test_a_learner_that_is_killed_begins_again_by_itself(started: Started, whole: Path) -> None:
    struck = halted(started, training_plan(max_restarts=1))
    struck.kill(STARTS + LEARNS)
    lines = finish(struck.command)
    assert struck.command.returncode == 0, lines
    assert [attempt["exit"] for attempt in attempts_of(started.run_dir)] == [1, 0]
    assert_nothing_is_lost(started.run_dir, whole)


def test_a_clock_that_jumps_changes_nothing(
    started: Started, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A day back, then ten days on, for the supervisor and the loop, with short deadlines."""
    offset = tmp_path / "offset"
    (tmp_path / "sitecustomize.py").write_text(CLOCK.format(offset=str(offset)))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    deadlines = {"heartbeat_deadline_s": 20.0, "progress_deadline_s": 30.0}
    struck = halted(started, training_plan(**deadlines))
    report = started.paths.node_report(0)
    for seconds in (-86_400, 864_000):
        offset.write_text(str(seconds))
        wait_for(partial(reads_otherwise, report, report.read_bytes()))
    struck.go_on()
    lines = finish(struck.command)
    assert struck.command.returncode == 0, lines
    (attempt,) = attempts_of(started.run_dir)
    assert float(str(attempt["ended"])) - float(str(attempt["started"])) > 800_000
    assert_nothing_is_lost(started.run_dir, whole)


def reads_otherwise(file: Path, than: bytes) -> bool:
    return file.read_bytes() != than


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(run_dir: Path) -> None:
    with (run_dir / "big").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a disk of its own")
def test_a_disk_that_becomes_full_costs_nothing(started: Started, whole: Path) -> None:
    with small_disk(started.run_dir):
        struck = halted(started, training_plan())
        fill(started.run_dir)
        struck.go_on()
        lines = finish(struck.command)
        assert struck.command.returncode == 1
        assert "No space left on device" in lines[-1], lines
        assert processes_of(started.run_dir) == []
        (started.run_dir / "big").unlink()
        code, lines = resume(started.run_dir)
        assert code == 0, lines
        assert_nothing_is_lost(started.run_dir, whole)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a disk of its own")
def test_a_folder_that_becomes_read_only_costs_nothing(started: Started, whole: Path) -> None:
    """A disk in use does not, so it does between two attempts."""

    def remount(how: str) -> None:
        command = ["mount", "-o", f"remount,{how}", str(started.run_dir)]
        subprocess.run(command, check=True)

    with small_disk(started.run_dir):
        struck = halted(started, training_plan())
        struck.kill(LOOP)
        finish(struck.command)
        remount("ro")
        code, lines = resume(started.run_dir)
        assert code == 1
        assert "Read-only file system; choose a folder" in lines[-1], lines
        remount("rw")
        code, lines = resume(started.run_dir)
        assert code == 0, lines
        assert_nothing_is_lost(started.run_dir, whole)


@pytest.mark.parametrize("damage", ["manifest", "weights", "loop_state"])
def test_a_lost_checkpoint_costs_no_step(started: Started, whole: Path, damage: str) -> None:
    struck = halted(started, training_plan())
    struck.kill(LOOP)
    finish(struck.command)
    *_, before, last = sorted(started.paths.checkpoints.iterdir())
    if damage == "manifest":
        (last / MANIFEST).unlink()
    else:
        file = last / "weights" if damage == "weights" else started.paths.loop_state(last)
        data = file.read_bytes()
        file.write_bytes(bytes([data[0] ^ 1]) + data[1:])
    code, lines = resume(started.run_dir)
    assert code == 0, lines
    assert events(started.run_dir, "attempt_resumed")[0]["checkpoint"] == before.name
    assert_nothing_is_lost(started.run_dir, whole, has_taken_again=True)


def test_a_damaged_batch_is_packed_again(started: Started, whole: Path) -> None:
    """A step is taken again whose batch lies in a file, for its checkpoint is lost."""
    struck = halted(started, training_plan())
    struck.kill(LOOP)
    finish(struck.command)
    (max(started.paths.checkpoints.iterdir()) / MANIFEST).unlink()
    files = (started.run_dir / "batches").rglob("*.safetensors")
    damaged = max(files, key=lambda path: path.name)
    data = damaged.read_bytes()
    damaged.write_bytes(data[:-5])
    code, lines = resume(started.run_dir)
    assert code == 0, lines
    assert damaged.read_bytes() == data
    assert_nothing_is_lost(started.run_dir, whole, has_taken_again=True)


def fall_silent(started: Started) -> None:
    (silent,) = processes_of(started.run_dir, SUPERVISOR, "1", "test.0")
    silent.suspend()
    wait_for(lambda: attempts_of(started.run_dir)[-1]["ended"] is not None)
    silent.resume()


def kill_node_0(started: Started) -> None:
    for words in (("--first-node=0",), (SUPERVISOR, "0", "test.0")):
        for process in processes_of(started.run_dir, *words):
            process.kill()


@pytest.mark.parametrize(
    "fault", [fall_silent, kill_node_0, None], ids=["silent", "node 0 killed", "missing"]
)
def test_a_run_of_two_nodes_is_launched_again_after_one_is_gone(
    started: Started, whole: Path, fault: Callable[[Started], None] | None
) -> None:
    """None: the second node never comes up."""
    deadlines = {"heartbeat_deadline_s": 3.0, "node_deadline_s": 3.0 if fault is None else 60.0}
    plan = training_plan(learner_nodes=2, **deadlines)
    created(started, on_node_1(plan, "learner_1"))
    nodes = [started.node(0, "--first-node=0"), *([started.node(1)] if fault else [])]
    wait_for((started.run_dir / "halted").exists)
    if fault is not None:
        fault(started)
    for node in nodes:
        assert finish(node) and node.returncode != 0
    wait_for(lambda: processes_of(started.run_dir) == [])
    nodes = [started.node(number, "--launch", "again") for number in (0, 1)]
    for node in nodes:
        lines = finish(node)
        assert node.returncode == 0, lines
    assert_nothing_is_lost(started.run_dir, whole)
