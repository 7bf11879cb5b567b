"""Rank grids forked from one process that has torch and Megatron-Core loaded.

``python -m tests.warm_parent`` reads one JSON job a line from its standard input and answers each
with one line. A rank calls the job's function with its RankGrid; what it returns is pickled.
"""

import importlib
import json
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e3mega.device import ProcessRank
from e3mega.plan.topology import num_learner_ranks
from e3mega.spec.schema.layout import LearnerLayout


class WarmParent:
    """The test's end: starts the process, gives it jobs, one at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "tests.warm_parent"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    def run(
        self, layout: LearnerLayout, function: str, *, timeout_s: float = 120.0, **arguments: Any
    ) -> list[Any]:
        """Call ``module:function`` with (grid, **arguments) on every rank; results by world rank.

        Arguments go through JSON. Raises AssertionError with the tracebacks of failed ranks.
        """
        return self.start(layout, function, timeout_s=timeout_s, **arguments).results()

    def load(self, *modules: str) -> None:
        """Import modules in the parent, so that the ranks of later jobs have them already."""
        self._write({"modules": modules})
        assert self.answer() == [], "the modules are loaded"

    def start(
        self, layout: LearnerLayout, function: str, *, timeout_s: float = 120.0, **arguments: Any
    ) -> "GridJob":
        """As ``run``, but without waiting; no other job may start before its results are read."""
        folder = Path(tempfile.mkdtemp(dir=self._folder))
        job = {
            "layout": layout.model_dump(mode="json"),
            "function": function,
            "arguments": arguments,
            "folder": str(folder),
            "timeout_s": timeout_s,
        }
        self._write(job)
        return GridJob(self, folder)

    def _write(self, line: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(line) + "\n")
        self._process.stdin.flush()

    def answer(self) -> list[int]:
        """The exit statuses of the job under way, by world rank, when all its ranks have ended."""
        assert self._process.stdout is not None
        answer = self._process.stdout.readline()
        assert answer, "the warm parent is gone"
        return json.loads(answer)

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)


@dataclass(frozen=True, slots=True)
class GridJob:
    """A job under way."""

    parent: WarmParent
    folder: Path

    def wait(self) -> tuple[list[int], str]:
        """Exit statuses of the ranks when all have ended, and the tracebacks of the failed."""
        codes = self.parent.answer()
        return codes, "\n".join(path.read_text() for path in sorted(self.folder.glob("*.error")))

    def results(self) -> list[Any]:
        """What the ranks returned; raises AssertionError with the tracebacks of failed ranks."""
        codes, errors = self.wait()
        assert not any(codes), f"{codes}\n{errors}"
        paths = [self.folder / f"{rank}.pickle" for rank in range(len(codes))]
        return [pickle.loads(path.read_bytes()) for path in paths]


def _run_rank(job: dict[str, Any], world_rank: int, size: int) -> None:
    from e3mega.mcore.parallel import init_parallel

    folder = Path(job["folder"])
    try:
        layout = LearnerLayout.model_validate_json(json.dumps(job["layout"]))
        process = ProcessRank(world_rank, size, world_rank)
        grid = init_parallel(layout, process, init_method=f"file://{folder}/store")
        module, name = job["function"].split(":")
        result = getattr(importlib.import_module(module), name)(grid, **job["arguments"])
        (folder / f"{world_rank}.pickle").write_bytes(pickle.dumps(result))
    except BaseException:
        (folder / f"{world_rank}.error").write_text(traceback.format_exc())
        os._exit(1)
    os._exit(0)


def _run_job(job: dict[str, Any]) -> list[int]:
    size = num_learner_ranks(LearnerLayout.model_validate_json(json.dumps(job["layout"])))
    ranks: list[int] = []
    for world_rank in range(size):
        pid = os.fork()
        if pid == 0:
            _run_rank(job, world_rank, size)
        ranks.append(pid)
    deadline = time.monotonic() + job["timeout_s"]
    codes: dict[int, int] = {}
    while len(codes) < size:
        for pid in ranks:
            if pid in codes:
                continue
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                codes[pid] = os.waitstatus_to_exitcode(status)
        if any(codes.values()) or time.monotonic() > deadline:
            for pid in set(ranks) - set(codes):
                os.kill(pid, signal.SIGKILL)
                codes[pid] = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        time.sleep(0.01)
    return [codes[pid] for pid in ranks]


def _load(modules: list[str]) -> list[int]:
    for module in modules:
        importlib.import_module(module)
    assert threading.active_count() == 1, "a fork must not lose threads"
    return []


def _main() -> None:
    # Libraries print to the standard output; answers keep it for themselves.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    # What every rank imports, so that a fork has it already.
    _load(["e3mega.learner.commands", "e3mega.weights.source", "tests.learner_cases"])
    for line in sys.stdin:
        job = json.loads(line)
        answer = _load(job["modules"]) if "modules" in job else _run_job(job)
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    _main()
