"""A rank of the learner, under torchrun: ``python -m`` this, RUN_DIR ATTEMPT SEGMENT."""

import ctypes
import os
import signal
import sys
from pathlib import Path

from e3mega.mcore.quiet import quiet
from e3mega.plan.paths import RunPaths
from e3mega.plan.planfile import learner_plan, read_plan

_PR_SET_PDEATHSIG = 1


def main(run_dir: Path, attempt: int, segment: int) -> None:
    """Start this rank from the plan and the newest complete checkpoint, then serve until STOP."""
    _die_with_parent()
    paths = RunPaths(run_dir)
    plan = learner_plan(read_plan(paths.plan), segment)
    quiet()
    # Heavy imports come after the signal is set and the plan has been read: a bad plan fails at
    # once, and a rank whose launcher dies while torch loads does not stay behind.
    from e3mega.learner.serve import serve

    serve(plan, paths, attempt, segment)


def _die_with_parent() -> None:
    """Ask the kernel to kill this rank when its launcher dies, however it dies."""
    parent = os.getppid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
    sys.stdout.flush()
    sys.stderr.flush()
    # Nothing is left to do; interpreter shutdown with torch loaded takes a second.
    os._exit(0)
