"""The record of a run's attempts: one JSON line each, with when and why it ended."""

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from e3mega.rollout.whole_file import write_whole

KILLED = "killed before it could write a reason"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt of a run. Example: ``Attempt(0, 1.7e9, 1.7e9 + 60, "finished", 0)``."""

    attempt: int
    """Ascending from 0."""
    started: float
    """Seconds since the epoch."""
    ended: float | None
    """None while it runs."""
    reason: str
    """``finished``, or why it ended."""
    exit: int | None
    """Exit status of the run; None while it runs or if it was killed."""


def read_attempts(path: Path) -> tuple[Attempt, ...]:
    """The attempts so far, oldest first."""
    if not path.exists():
        return ()
    lines = path.read_text(encoding="utf-8").splitlines()
    return tuple(Attempt(**json.loads(line)) for line in lines)


def begin_attempt(path: Path) -> int:
    """Append a line for a new attempt; its number. A former one without an end was killed."""
    former = tuple(
        attempt
        if attempt.ended is not None
        else Attempt(attempt.attempt, attempt.started, time.time(), KILLED, None)
        for attempt in read_attempts(path)
    )
    number = len(former)
    _write(path, (*former, Attempt(number, time.time(), None, "", None)))
    return number


def end_attempt(path: Path, *, reason: str, exit_code: int) -> None:
    """Complete the newest attempt's line if it is still open."""
    *former, newest = read_attempts(path)
    if newest.ended is None:
        ended = Attempt(newest.attempt, newest.started, time.time(), reason, exit_code)
        _write(path, (*former, ended))


def _write(path: Path, attempts: tuple[Attempt, ...]) -> None:
    lines = "".join(json.dumps(asdict(attempt)) + "\n" for attempt in attempts)
    write_whole(path, lines.encode())
