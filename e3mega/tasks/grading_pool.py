"""A pool of worker processes that grade answers, each within limits of time and memory."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from e3mega.errors import JobError
from e3mega.tasks.failure import Failure

_START_DEADLINE_S = 60.0
# A question and a verdict are one line each; asyncio refuses longer ones.
_MAX_LINE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Grade:
    """What a grader says of one answer. Example: ``Grade(1.0, Failure.NONE)``."""

    score: float
    failure: Failure


@dataclass(frozen=True, slots=True)
class GradingLimits:
    """What one answer may cost. Example: ``GradingLimits("e3mega.tasks.math.grader", 2, ...)``."""

    grader: str
    """Module with ``grade(truth: str, answer: str) -> tuple[float, str]``, or a Python file."""
    num_workers: int
    time_limit_s: float
    memory_limit_bytes: int


class GradingPool:
    """Workers that are started when first needed, killed at their limit and started again.

    Consumes answers, produces grades; waits for a free worker, then at most ``time_limit_s`` for
    its answer. What a worker does to itself costs one answer: the next one gets a new worker.
    """

    def __init__(self, limits: GradingLimits) -> None:
        self._limits = limits
        self._has_told = False
        self._idle: asyncio.Queue[Process | None] = asyncio.Queue()
        for _ in range(limits.num_workers):
            self._idle.put_nowait(None)

    async def grade(self, truth: str, answer: str) -> Grade:
        """Grade one answer; JobError when no worker starts, or the grader gives no grade."""
        worker = await self._idle.get()
        try:
            if worker is None:
                worker = await self._start()
            grade, is_alive = await self._ask(worker, truth, answer)
            if not is_alive:
                await _kill(worker)
                worker = None
        except BaseException:
            # Cancelled or failed in the middle of an answer: the worker's next line is not ours.
            if worker is not None:
                await _kill(worker)
            self._idle.put_nowait(None)
            raise
        self._idle.put_nowait(worker)
        return grade

    async def _ask(self, worker: Process, truth: str, answer: str) -> tuple[Grade, bool]:
        """The grade, and whether the worker can be used again."""
        assert worker.stdin is not None and worker.stdout is not None, "both are pipes"
        try:
            worker.stdin.write(json.dumps([truth, answer]).encode() + b"\n")
            line = await asyncio.wait_for(worker.stdout.readline(), self._limits.time_limit_s)
        except TimeoutError:
            return Grade(0.0, Failure.TIME), False
        except (ConnectionError, ValueError):
            return Grade(0.0, Failure.CRASH), False
        if not line.endswith(b"\n"):
            return Grade(0.0, Failure.CRASH), False
        score, failure, reason = json.loads(line)
        if score is None:
            raise JobError(f"{self._limits.grader}: {reason}")
        self._tell(failure, reason)
        # Python's heap does not shrink, so a worker that met its limit would meet it again.
        return Grade(score, Failure(failure)), failure != Failure.MEMORY.value

    def _tell(self, failure: str, reason: str) -> None:
        """Say once on stderr why a user's own grader fails; a mistake in it fails every answer."""
        is_own = self._limits.grader.endswith(".py")
        if is_own and reason and not self._has_told:
            self._has_told = True
            words = f"{self._limits.grader}: {reason} (counted as {failure}; not said again)"
            print(words, file=sys.stderr, flush=True)

    async def _start(self) -> Process:
        limits = self._limits
        worker = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "e3mega.tasks.grading_worker"),
            *(limits.grader, str(limits.memory_limit_bytes)),
            stdin=PIPE,
            stdout=PIPE,
            stderr=DEVNULL,
            limit=_MAX_LINE_BYTES,
            start_new_session=True,
            preexec_fn=_deafen,
        )
        assert worker.stdout is not None, "it is a pipe"
        try:
            ready = await asyncio.wait_for(worker.stdout.readline(), _START_DEADLINE_S)
        except BaseException:
            await _kill(worker)
            raise
        if ready != b"ready\n":
            await _kill(worker)
            reason = ready.decode(errors="replace").strip() or "it ended without a word"
            raise JobError(f"a grading worker for {limits.grader} does not start: {reason}")
        return worker

    async def close(self) -> None:
        """End all workers, each when its answer is done."""
        workers = [await self._idle.get() for _ in range(self._limits.num_workers)]
        for worker in workers:
            if worker is not None:
                await _kill(worker)
            self._idle.put_nowait(None)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()


async def _kill(worker: Process) -> None:
    """End the worker with all that it may have started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(worker.pid, signal.SIGKILL)
    await worker.wait()


def _deafen() -> None:
    """What a worker calls before exec: it hears no signal that a scheduler sends to all.

    An answer whose worker such a signal ended would count as wrong. It dies with the loop.
    """
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
