"""A run started as a person starts it, watched, hit with signals, and read afterwards."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from e3mega.metrics import Json, read_metrics
from e3mega.plan.paths import RunPaths

ROOT = Path(__file__).parents[2]
END_S = 60.0
"""A run of which a process was killed ends within this."""
SETTINGS = ("loss.entropy.coefficient=0.01",)
"""Weights that are nearly random earn no reward. The entropy bonus has a gradient all the same,
which depends on every token sampled; without it final weights would be equal however they came."""
Event = dict[str, Json]


class LiveRun:
    """One command at work on a run folder; remembers every process below it."""

    def __init__(self, run_dir: Path, *arguments: str) -> None:
        self.paths = RunPaths(run_dir)
        self._seen: set[psutil.Process] = set()
        self._first_event = len(self._all_events())
        self.process = subprocess.Popen(
            [sys.executable, "-m", "e3mega.cli", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=ROOT,
        )

    def _all_events(self) -> list[Event]:
        path = self.paths.metrics("loop")
        return list(read_metrics(path)) if path.exists() else []

    def events(self, kind: str) -> list[Event]:
        """The loop's metrics of one kind, of this command only."""
        return [e for e in self._all_events()[self._first_event :] if e["event"] == kind]

    def wait_for(self, condition: Callable[[], bool], seconds: float = 300.0) -> None:
        """Wait until the condition holds; fails with the output if the command ends first."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert self.process.poll() is None, self.output()
            assert time.monotonic() < deadline, "waited in vain"
            self._look()
            time.sleep(0.05)

    def _look(self) -> None:
        self._seen.update(psutil.Process(self.process.pid).children(recursive=True))

    def find(self, *words: str) -> list[psutil.Process]:
        """The command's processes whose command line holds all the words, oldest first."""
        self._look()
        found = [p for p in self._seen if p.is_running() and _holds(p, words)]
        return sorted(found, key=lambda process: process.create_time())

    def finish(self, seconds: float = 300.0) -> tuple[int, list[str], float]:
        """Wait for the end: exit status, lines printed, seconds waited. No process is left."""
        start = time.monotonic()
        while self.process.poll() is None:
            assert time.monotonic() < start + seconds, "the command does not end"
            self._look()
            time.sleep(0.05)
        waited_s = time.monotonic() - start
        assert self.survivors() == []
        return self.process.returncode, self.output().splitlines(), waited_s

    def survivors(self) -> list[str]:
        """What still runs of all the processes seen."""
        return [" ".join(_line(p)) for p in self._seen if _is_alive(p)]

    def output(self) -> str:
        """All that the command printed; call it once, after the end."""
        return self.process.communicate(timeout=60)[0]

    def kill_all(self) -> None:
        """End whatever a failed test left."""
        for process in (self.process, *self._seen):
            try:
                process.kill()
            except (psutil.NoSuchProcess, ProcessLookupError):
                continue


def _line(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def _holds(process: psutil.Process, words: tuple[str, ...]) -> bool:
    line = " ".join(_line(process))
    return bool(line) and all(word in line for word in words)


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@dataclass
class Finished:
    """A run that went to its end without a fault, and what it printed."""

    run: LiveRun
    lines: list[str]

    def last(self, kind: str) -> Event:
        """The last event of a kind."""
        return self.run.events(kind)[-1]


class LiveRuns:
    """Starts commands, and leaves nothing of them behind."""

    def __init__(self) -> None:
        self._runs: list[LiveRun] = []

    def start(self, run_dir: Path, spec: str = "quickstart-small", *settings: str) -> LiveRun:
        """`e3mega run` of the small spec, or of another with settings of its own."""
        words = [word for value in settings or SETTINGS for word in ("--set", value)]
        return self._add(LiveRun(run_dir, "run", spec, "--run-dir", str(run_dir), *words))

    def resume(self, run_dir: Path) -> LiveRun:
        """`e3mega resume`."""
        return self._add(LiveRun(run_dir, "resume", str(run_dir)))

    def command(self, run_dir: Path, *words: str) -> LiveRun:
        """Any other command at work on a run folder."""
        return self._add(LiveRun(run_dir, *words))

    def _add(self, run: LiveRun) -> LiveRun:
        self._runs.append(run)
        return run

    def close(self) -> None:
        """End what is left."""
        for run in self._runs:
            if run.process.poll() is None or run.survivors():
                run.kill_all()


def victims(run: LiveRun) -> Iterator[tuple[str, psutil.Process]]:
    """Every process of a run at work whose death must end it, by name."""
    for number, rank in enumerate(run.find("e3mega.learner.worker", "-u")):
        # Megatron's checkpoint writer is a fork of its rank with the same command line.
        if rank.parent() not in run.find("e3mega.learner.worker", "-u"):
            yield f"learner rank {number}", rank
    yield "loop", run.find("e3mega.loop.wiring")[0]
    yield "server's API process", run.find("e3mega.vllm_plugin.main")[0]
    yield "server's engine core", run.find("VLLM::EngineCore")[0]
    yield "server's worker", run.find("VLLM::Worker")[0]


def hit(process: psutil.Process, number: signal.Signals) -> None:
    """Send a signal to a process that must be alive."""
    assert process.is_running()
    os.kill(process.pid, number)


def attempts_of(run_dir: Path) -> list[dict[str, object]]:
    """The lines of attempts.jsonl."""
    lines = RunPaths(run_dir).exit_reason.read_text().splitlines()
    return [json.loads(line) for line in lines]
