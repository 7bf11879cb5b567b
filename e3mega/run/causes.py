"""Why a job ended, in words, from its exit status and its log."""

import json
import re
import signal
from pathlib import Path

_TAIL_BYTES = 65_536
_NUM_CONTEXT_LINES = 12
# Before the exception there may be a rank, as torchrun writes it, or vLLM's process and place.
_EXCEPTION = re.compile(
    r"^(?:\[rank\d+\]:\s*|.*\[\w+\.py:\d+\]\s)?((?:\w+\.)*\w*(?:Error|Exception|Interrupt)(?::.*)?)$"
)
# vLLM logs tracebacks of what it can do without, such as a tokenizer, in lines of a lower level.
_BELOW_ERROR = re.compile(r"^(?:\(.*?\) )?(?:DEBUG|INFO|WARNING) .*\[\w+\.py:\d+\]\s")
# torchrun closes with an error of its own that only says that some rank failed.
_NOT_A_CAUSE = re.compile(r"ChildFailedError|SignalException|KeyboardInterrupt")
_RANK = re.compile(r"^\s*rank\s*:\s*(\d+)")
_EXIT_CODE = re.compile(r"^\s*exitcode\s*:\s*(-?\d+)")


def exit_words(status: int) -> str:
    """An exit status as a person says it; negative ones are signals, as in subprocess.

    Example: ``exit_words(-9) == "was killed by SIGKILL"``.
    """
    if status >= 0:
        return f"exited with status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    return f"was killed by {name}"


def log_tail(log: Path, start: int) -> list[str]:
    """The last lines with text that were logged after byte ``start``."""
    if not log.exists():
        return []
    with log.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(start, size - _TAIL_BYTES))
        text = file.read().decode(errors="replace")
    return [line.rstrip() for line in text.splitlines() if line.strip()]


def context_lines(log: Path, start: int) -> list[str]:
    """The last few lines of the log, for a person to read above the reason."""
    return log_tail(log, start)[-_NUM_CONTEXT_LINES:]


def log_cause(log: Path, start: int) -> str:
    """The line of the log that says why: a stated reason, a dead rank, the last exception."""
    lines = log_tail(log, start)
    for line in reversed(lines):
        stated = _stated_reason(line)
        if stated:
            return stated
    rank = _dead_rank(lines)
    for line in reversed(lines):
        found = _EXCEPTION.match(line)
        if found and not (_NOT_A_CAUSE.search(line) or _BELOW_ERROR.match(line)):
            return f"{found[1]} ({rank})" if rank else found[1]
    # The first line is the attempt's header.
    return rank or (lines[-1] if len(lines) > 1 else "")


def has_stated_reason(log: Path, start: int) -> bool:
    """Whether the job itself said why it left; started again, it would say so again."""
    return any(_stated_reason(line) for line in log_tail(log, start))


def _stated_reason(line: str) -> str:
    """The reason of a line such as ``{"reason": "..."}``, which our jobs end with."""
    if not line.startswith('{"reason"'):
        return ""
    try:
        stated = json.loads(line)
    except json.JSONDecodeError:
        return ""
    return str(stated["reason"])


def _dead_rank(lines: list[str]) -> str:
    """Which rank torchrun names as the first failed, e.g. ``rank 1 was killed by SIGKILL``."""
    rank = ""
    starts = [number for number, line in enumerate(lines) if line.startswith("Root Cause")]
    for line in lines[starts[-1] :] if starts else []:
        if found := _RANK.match(line):
            rank = found[1]
        elif (found := _EXIT_CODE.match(line)) and rank:
            return f"rank {rank} {exit_words(int(found[1]))}"
    return ""
