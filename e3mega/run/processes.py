"""Processes of a run: started so that they die with their parent, stopped as whole trees."""

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from e3mega.errors import JobError

_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36

POLL_S = 0.05
KILL_DEADLINE_S = 15.0
TRACKER_GRACE_S = 2.0


@dataclass(frozen=True, slots=True)
class RunningJob:
    """A started job. Example: ``start_job("loop", ("python", "-c", "0"), env={}, ...)``."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    log_start: int
    """Where this attempt begins in the log, in bytes."""


def adopt_orphans() -> None:
    """Make this process the parent of every descendant whose own parent dies."""
    if _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def die_with_parent(
    signal_number: int, *, deaf_to: signal.Signals | None = None
) -> Callable[[], None]:
    """What a child calls before exec to be sent the signal when the calling thread dies.

    The child and what it starts ignore the signal ``deaf_to``.
    """
    parent = os.getpid()

    def tie() -> None:
        if deaf_to is not None:
            signal.signal(deaf_to, signal.SIG_IGN)
        _LIBC.prctl(_PR_SET_PDEATHSIG, int(signal_number), 0, 0, 0)
        # The parent may have died before the call above; then nobody would send the signal.
        if os.getppid() != parent:
            os._exit(1)

    return tie


def start_job(
    name: str,
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    log: Path,
    header: str,
    deaf_to: signal.Signals | None = None,
) -> RunningJob:
    """Start a job in a session of its own, its output appended to the log below the header.

    Its processes ignore the signal ``deaf_to``. Raises JobError when the program cannot be started.
    Must be called in the main thread.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        log_start = output.tell()
        output.write(f"{header}\n".encode())
        output.flush()
        try:
            process = subprocess.Popen(
                list(argv),
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_parent(signal.SIGKILL, deaf_to=deaf_to),
            )
        except OSError as error:
            raise JobError(
                f"job {name} cannot be started: {argv[0]}: {error.strerror}; run make setup, or "
                "correct the job's argv in plan.json"
            ) from error
    return RunningJob(name=name, process=process, log=log, log_start=log_start)


def living_descendants(spare: Collection[int] = ()) -> list[psutil.Process]:
    """All processes below this one that still run, but for those with the spared ids."""
    living: list[psutil.Process] = []
    for process in psutil.Process().children(recursive=True):
        if process.pid not in spare and _status(process) not in (None, psutil.STATUS_ZOMBIE):
            living.append(process)
    return living


def stop_jobs(jobs: Sequence[RunningJob], *, grace_s: float, is_urgent: Callable[[], bool]) -> None:
    """End the jobs themselves: SIGTERM to each one's process group, and SIGKILL after ``grace_s``
    seconds, or as soon as it is urgent."""
    for job in jobs:
        if job.process.poll() is None:
            _signal_group(job.process.pid, signal.SIGTERM)
    deadline = time.monotonic() + grace_s
    while any(job.process.poll() is None for job in jobs):
        if is_urgent() or time.monotonic() >= deadline:
            break
        time.sleep(POLL_S)
    for job in jobs:
        if job.process.poll() is None:
            _signal_group(job.process.pid, signal.SIGKILL)
            job.process.wait(KILL_DEADLINE_S)


def descendants_of(pid: int) -> list[psutil.Process]:
    """All processes below one; none when it has ended."""
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def kill_all(processes: Sequence[psutil.Process]) -> None:
    """SIGKILL those of the processes that still run, and wait for their end."""
    for process in processes:
        _kill(process)
    psutil.wait_procs(list(processes), timeout=KILL_DEADLINE_S)


def kill_descendants(jobs: Sequence[RunningJob] = (), spare: Collection[int] = ()) -> None:
    """SIGKILL whatever runs below this process until nothing does.

    Raises JobError naming what outlives the deadline. Orphans must come back to this process
    (``adopt_orphans``), else those below a dead child are out of reach.
    """
    start = time.monotonic()
    while True:
        # Popen's own children are reaped through their handles, adopted ones by their ids.
        own = {job.process.pid for job in jobs if job.process.poll() is None}
        _reap_adopted(own | set(spare))
        living = living_descendants(spare)
        if not living:
            return
        waited_s = time.monotonic() - start
        if waited_s > KILL_DEADLINE_S:
            names = ", ".join(f"{process.pid}" for process in living)
            raise JobError(f"processes {names} do not end after SIGKILL; see dmesg for the disk")
        for process in living:
            # Python's resource tracker ends by itself after removing the shared memory and
            # semaphores of the processes killed here; it is given the time to.
            if waited_s > TRACKER_GRACE_S or not _is_resource_tracker(process):
                _kill(process)
        time.sleep(POLL_S)


def _status(process: psutil.Process) -> str | None:
    try:
        return process.status()
    except psutil.NoSuchProcess:
        return None


def _is_resource_tracker(process: psutil.Process) -> bool:
    try:
        return any("multiprocessing.resource_tracker" in word for word in process.cmdline())
    except psutil.Error:
        return False


def _kill(process: psutil.Process) -> None:
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return


def _signal_group(group: int, signal_number: int) -> None:
    try:
        os.killpg(group, signal_number)
    except ProcessLookupError:
        return


def _reap_adopted(spare: Collection[int]) -> None:
    """Collect the exit status of dead children that no handle of this process waits for."""
    for process in psutil.Process().children():
        if process.pid not in spare and _status(process) == psutil.STATUS_ZOMBIE:
            try:
                os.waitpid(process.pid, os.WNOHANG)
            except ChildProcessError:
                continue
