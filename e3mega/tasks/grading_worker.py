"""The process that grades answers, one line in and one line out, fenced in.

``python -m e3mega.tasks.grading_worker GRADER MEMORY_LIMIT_BYTES``, started by ``GradingPool``.
Answers are what models wrote, and parsers of mathematics run far on small texts, so this process
has a memory limit, may not write files, start programs or open connections, and is killed from
outside when it takes too long.
"""

import ctypes
import importlib
import importlib.util
import json
import math
import os
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from e3mega.errors import RecordError, boundary
from e3mega.tasks.failure import Failure

Grader = Callable[[str, str], tuple[float, str]]
Verdict = tuple[float | None, str, str]
"""Score, failure and why; no score where the grader gave something that is no grade."""

_PR_SET_PDEATHSIG = 1
_MAX_WORDS = 300
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_FORBIDDEN_EVENTS = (
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "os.fork",
    "os.forkpty",
    "subprocess.Popen",
    "pty.spawn",
    "socket.",
    "urllib.Request",
    "ctypes.",
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.mkdir",
    "os.chmod",
    "os.chown",
    "os.link",
    "os.symlink",
    "os.truncate",
    "os.kill",
    "os.putenv",
    "shutil.",
)


class ForbiddenError(BaseException):
    """The grader reached for something outside; no library's ``except Exception`` stops it."""


def find_grader(name: str) -> Grader:
    """``grade`` of a module, or of a file if the name ends in ``.py``."""
    if not name.endswith(".py"):
        return importlib.import_module(name).grade
    spec = importlib.util.spec_from_file_location("own_task", Path(name))
    assert spec is not None and spec.loader is not None, f"{name} is a Python file"
    module = importlib.util.module_from_spec(spec)
    sys.modules["own_task"] = module
    spec.loader.exec_module(module)
    return module.grade


def fence(memory_limit_bytes: int) -> None:
    """Limit this process for good; imports must be over, reading files stays possible."""
    resource.setrlimit(resource.RLIMIT_AS, (memory_limit_bytes, memory_limit_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    sys.setrecursionlimit(5000)
    # A module that is first imported now would else be written as byte code.
    sys.dont_write_bytecode = True

    def refuse(event: str, arguments: tuple[object, ...]) -> None:
        flags = arguments[2] if event == "open" else 0
        is_write = isinstance(flags, int) and flags & _WRITING
        if is_write or event.startswith(_FORBIDDEN_EVENTS):
            raise ForbiddenError(event)

    sys.addaudithook(refuse)


def graded(grade: Grader, truth: str, answer: str) -> Verdict:
    """What the grader says of an answer; the failures are the values of ``failure.Failure``."""
    try:
        # What a model wrote may break a grader in any way; the answer is what is at fault.
        with boundary(RecordError, "the answer breaks the grader", words=_words):
            result: object = grade(truth, answer)
    except MemoryError:
        return 0.0, "memory", ""
    except ForbiddenError as error:
        return 0.0, "forbidden", str(error)
    except RecordError as error:
        return 0.0, "crash", str(error)
    return _read(result)


def _read(result: object) -> Verdict:
    """The verdict in what a grader gave; no score where it is none."""
    match result:
        case (int() | float() as score, str() as failure) if math.isfinite(score):
            if failure in {each.value for each in Failure}:
                return float(score), failure, ""
        case _:
            pass
    words = ", ".join(each.value for each in Failure if each.value)
    need = f"a pair of a finite number and a failure, which is empty or one of {words}"
    return None, "", f"grade gave {repr(result)[:_MAX_WORDS]}; need {need}"


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:_MAX_WORDS]}"


def main(argv: list[str]) -> None:
    """Answer lines ``[truth, answer]`` with a ``Verdict`` a line until the input ends."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # What a grader prints must not get between the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    try:
        # A file of a user's may raise anything when it is loaded.
        with boundary(RecordError, "it cannot be loaded", words=_words):
            grade = find_grader(argv[0])
    except RecordError as error:
        print(" ".join(str(error).split()), file=answers, flush=True)
        return
    fence(int(argv[1]))
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        truth, answer = json.loads(line)
        print(json.dumps(graded(grade, truth, answer)), file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
