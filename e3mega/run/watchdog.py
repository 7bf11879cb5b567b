"""Notices that a run makes no progress, and writes the stacks of its processes to the logs."""

import shutil
import subprocess
import sysconfig
import time
from pathlib import Path

from e3mega.plan.paths import RunPaths
from e3mega.run.processes import living_descendants

_LOOK_PERIOD_S = 5.0
_DUMP_TIMEOUT_S = 20.0


class Watchdog:
    """Watches the files that a run writes as it advances: events, rollouts, commands."""

    def __init__(self, paths: RunPaths, deadline_s: float) -> None:
        self._paths = paths
        self._deadline_s = deadline_s
        self._seen: frozenset[tuple[str, int]] = frozenset()
        self._changed = time.monotonic()
        self._look_due = 0.0

    def stalled_s(self) -> float | None:
        """Seconds without progress when they exceed the deadline, else None.

        Sizes are compared, not times of files, since clocks jump.
        """
        now = time.monotonic()
        if now < self._look_due:
            return None
        self._look_due = now + min(_LOOK_PERIOD_S, self._deadline_s / 4)
        seen = self._state()
        if seen != self._seen:
            self._seen, self._changed = seen, now
        stalled_s = now - self._changed
        return stalled_s if stalled_s > self._deadline_s else None

    def _state(self) -> frozenset[tuple[str, int]]:
        journals = self._paths.rollouts.rglob("*.jsonl")
        commands = self._paths.commands.glob("*/*.json")
        checkpoints = self._paths.checkpoints.glob("*/*")
        files = [self._paths.metrics("loop"), *journals, *commands, *checkpoints]
        return frozenset((str(path), _size(path)) for path in files)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return -1


def write_stacks(log: Path) -> None:
    """Append the Python stack of every process below this one to the log, as py-spy sees it."""
    log.parent.mkdir(parents=True, exist_ok=True)
    spy = shutil.which("py-spy", path=sysconfig.get_path("scripts")) or "py-spy"
    with log.open("a", encoding="utf-8") as file:
        for process in living_descendants():
            command = " ".join(process.cmdline()[:6])
            file.write(f"\n=== {time.strftime('%H:%M:%S')} process {process.pid}: {command}\n")
            file.write(_stack(spy, process.pid))


def _stack(spy: str, pid: int) -> str:
    try:
        done = subprocess.run(
            [spy, "dump", "--nonblocking", "--pid", str(pid)],
            capture_output=True,
            text=True,
            timeout=_DUMP_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"no stack: {error}\n"
    return done.stdout or f"no stack: {done.stderr.strip()}\n"
