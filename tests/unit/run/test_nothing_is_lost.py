"""Whatever happens to a run, it goes on to the same batches, each step once, the ledger balanced.

The real loop works among fakes of the learner and the servers, under the real supervisor. A fault
comes in the middle of a round; then the run is resumed, if the fault ended it.
"""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import psutil
import pytest

from e3mega.metrics import Json, read_metrics
from e3mega.plan.compile import compile_plan
from e3mega.plan.paths import MANIFEST
from e3mega.plan.planfile import JobPlan, Plan, Role
from e3mega.spec.resolve import find_spec, resolve_spec
from tests.unit.run.fake_runs import (
    STARTS,
    WAITS,
    attempts_of,
    finish,
    processes_of,
    resume_command,
    start,
    wait_for,
)
from tests.unit.run.fault_runs import Started

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
LEARNS = "while not (run_dir / f'over_{sys.argv[2]}').exists(): time.sleep(0.02)\n"
CLOCK = """\
import pathlib, time
real, offset = time.time, pathlib.Path({offset!r})
time.time = lambda: real() + (float(offset.read_text() or 0) if offset.exists() else 0.0)
"""
"""A clock that a file moves, in every Python process that finds this as ``sitecustomize``."""


def training_plan(**cluster: float) -> Plan:
    """The small run, its loop among fakes and nobody at the other jobs."""
    sets = ["checkpoint.every_rounds=1", *(f"cluster.{k}={v}" for k, v in cluster.items())]
    plan = compile_plan(resolve_spec(find_spec("quickstart-small"), sets=sets).options)
    loop = ("{python}", "-m", "tests.unit.run.training_job", "{run_dir}", "{attempt}")
    path = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), str(ROOT))))

    def job(name: str, role: Role, script: str) -> JobPlan:
        return JobPlan(name, role, ("{python}", "-c", script, "{run_dir}", "{attempt}"), {}, 0)

    jobs = (
        job("generation_0", Role.GENERATION, STARTS + WAITS),
        job("learner", Role.LEARNER, STARTS + LEARNS),
        JobPlan("loop", Role.LOOP, loop, {"PYTHONPATH": path}, 0),
    )
    return replace(plan, jobs=jobs)


@dataclass
class Struck:
    """A run at a halt in the middle of a round, and the command that runs it."""

    started: Started
    command: subprocess.Popen[str]

    @property
    def run_dir(self) -> Path:
        """Of the run."""
        return self.started.run_dir

    def process(self, *words: str) -> psutil.Process:
        """The newest process of the run with these words in its command line."""
        found = [p for p in processes_of(self.run_dir) if set(words) <= set(p.cmdline())]
        return max(found, key=lambda process: process.create_time())

    def kill(self, *words: str) -> None:
        """Kill a process of the run."""
        self.process(*words).kill()

    def go_on(self) -> None:
        """End the halt."""
        (self.run_dir / "halted").unlink()


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


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Started]:
    it = Started(tmp_path)
    yield it
    it.close()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The run without a fault."""
    it = Started(tmp_path_factory.mktemp("whole"))
    try:
        struck = halted(it, training_plan())
        struck.go_on()
        lines = finish(struck.command)
        assert struck.command.returncode == 0, lines
        yield it.run_dir
    finally:
        it.close()


def halted(started: Started, plan: Plan) -> Struck:
    """Start the run and wait until it halts in the middle of a round."""
    command = started.run(plan)

    def has_halted() -> bool:
        assert command.poll() is None, finish(command)
        return (started.run_dir / "halted").exists()

    wait_for(has_halted)
    return Struck(started, command)


def batches(run_dir: Path) -> dict[str, bytes]:
    files = sorted((run_dir / "batches").rglob("*.safetensors"))
    return {str(path.relative_to(run_dir)): path.read_bytes() for path in files}


def events(run_dir: Path, kind: str) -> list[dict[str, Json]]:
    path = run_dir / "metrics" / "loop.jsonl"
    return [event for event in read_metrics(path) if event["event"] == kind]


def resume(run_dir: Path) -> tuple[int, list[str]]:
    command = start(resume_command(run_dir))
    lines = finish(command)
    return command.returncode, lines


def assert_nothing_is_lost(run_dir: Path, whole: Path, *, has_taken_again: bool = False) -> None:
    """The run is finished, as if nothing had happened; no process of it is left.

    Steps after a checkpoint that is lost are taken again, to the same batches.
    """
    assert attempts_of(run_dir)[-1]["exit"] == 0
    assert batches(run_dir) == batches(whole) != {}
    steps, wanted = ([e["step"] for e in events(d, "step")] for d in (run_dir, whole))
    assert (sorted(set(steps)) if has_taken_again else steps) == wanted
    ledger, straight = (events(d, "ledger")[-1] for d in (run_dir, whole))
    assert ledger["prompts_redrawn"] == ledger["prompts_lost"]
    for name in ("prompts_answered", "generated", "trained", "supervised", "evaluated"):
        assert ledger[name] == straight[name], name
    assert processes_of(run_dir) == []


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


def remount(run_dir: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", str(run_dir)], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a disk of its own")
@pytest.mark.parametrize(
    ("fault", "mend", "words"),
    [
        (fill, lambda run_dir: (run_dir / "big").unlink(), "No space left on device"),
        (partial(remount, how="ro"), partial(remount, how="rw"), "Read-only file system"),
    ],
    ids=["full", "read-only"],
)
def test_a_folder_that_takes_nothing_more_costs_nothing(
    started: Started,
    whole: Path,
    fault: Callable[[Path], object],
    mend: Callable[[Path], object],
    words: str,
) -> None:
    with small_disk(started.run_dir):
        struck = halted(started, training_plan())
        fault(started.run_dir)
        lines = finish(struck.command)
        assert struck.command.returncode == 1
        assert words in lines[-1], lines
        assert processes_of(started.run_dir) == []
        mend(started.run_dir)
        (started.run_dir / "halted").unlink()
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
    struck = halted(started, training_plan())
    struck.go_on()
    folder = started.run_dir / "batches"
    count = len(batches(started.run_dir))
    wait_for(lambda: len(batches(started.run_dir)) > count)
    struck.kill(LOOP)
    finish(struck.command)
    damaged = max(folder.rglob("*.safetensors"), key=lambda path: path.stat().st_mtime)
    damaged.write_bytes(damaged.read_bytes()[:-5])
    code, lines = resume(started.run_dir)
    if code != 0:
        assert damaged.name in lines[-1], lines
        damaged.unlink()
        code, lines = resume(started.run_dir)
    assert code == 0, lines
    assert_nothing_is_lost(started.run_dir, whole)
