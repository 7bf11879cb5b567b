"""A vLLM server that tests share, and learners forked beside it, in run folders of their own."""

import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from pydantic import TypeAdapter

from e3mega.generation.server import vllm_arguments
from e3mega.loop.jobs import Jobs
from e3mega.loop.wiring import build_jobs
from e3mega.metrics import MetricsWriter, read_metrics
from e3mega.plan.compile import compile_plan
from e3mega.plan.paths import RunPaths, command_file
from e3mega.plan.planfile import Plan
from e3mega.rollout.records import Command, CommandKind
from e3mega.rollout.whole_file import write_whole
from e3mega.run.creation import create_folder
from e3mega.run.environment import job_environment
from e3mega.run.processes import RunningJob, start_job
from e3mega.spec.render import resolved_text
from e3mega.spec.resolve import find_spec, resolve_spec
from e3mega.weights.engines.messages import BACKEND
from tests.e2e import faults
from tests.warm_parent import GridJob, WarmParent

ROOT = Path(__file__).parents[2]
SERVER_START_S = 240.0
SPREAD = ("model.init_std=0.2",)
"""Random weights whose distributions are far from uniform."""


def make_run(folder: Path, *sets: str) -> tuple[Plan, RunPaths]:
    """The folder of a small run that was not started, with values set over the shipped spec."""
    resolved = resolve_spec(find_spec("quickstart-small"), sets=sets)
    plan, paths = compile_plan(resolved.options), RunPaths(folder)
    folder.mkdir(parents=True)
    create_folder(plan, resolved_text(resolved), paths)
    return plan, paths


def start_server(
    plan: Plan, paths: RunPaths, arguments: list[str], *, start: str, plugin: str = "register"
) -> RunningJob:
    """The server's process with the plan's environment; vLLM loads a function of ``faults``."""
    distribution = paths.run_dir / "plugin" / "faults-1.dist-info"
    distribution.mkdir(parents=True)
    (distribution / "METADATA").write_text("Metadata-Version: 2.1\nName: faults\nVersion: 1\n")
    (distribution / "entry_points.txt").write_text(
        f"[vllm.general_plugins]\nfaults = tests.e2e.faults:{plugin}\n"
    )
    search = f"{distribution.parent}:{ROOT}"
    files = (str(paths.key), str(paths.address(0)))
    return start_job(
        "generation_0",
        [sys.executable, "-m", "e3mega.vllm_plugin.main", *files, start, *arguments],
        env=job_environment({**os.environ, "PYTHONPATH": search}, plan.jobs[0].env),
        log=paths.log("generation_0"),
        header="=== a test's server",
    )


def wait_until_ready(job: RunningJob) -> None:
    """Return when the server answers; the log's end is in the error if it does not."""
    deadline = time.monotonic() + SERVER_START_S
    while "Application startup complete" not in job.log.read_text():
        assert job.process.poll() is None, job.log.read_text()[-3000:]
        assert time.monotonic() < deadline, job.log.read_text()[-3000:]
        time.sleep(0.1)


def end_tree(job: RunningJob) -> None:
    """Kill a job and everything below it."""
    processes = psutil.Process(job.process.pid).children(recursive=True)
    for process in [*processes, psutil.Process(job.process.pid)]:
        process.kill()
    job.process.wait(10)
    psutil.wait_procs(processes, timeout=10)


class Tier:
    """One server, whose receiver does what the fault of a run's folder says."""

    def __init__(self, folder: Path, warm_parent: WarmParent) -> None:
        self._folder = folder
        self._warm_parent = warm_parent
        self.plan, self.paths = make_run(folder / "server", *SPREAD)
        arguments = [
            word.replace(BACKEND, faults.BACKEND)
            for word in vllm_arguments(self.plan, self.paths, "127.0.0.1")
        ]
        self.job = start_server(self.plan, self.paths, arguments, start="fast")
        # Ranks that send weights then need not import vLLM each.
        warm_parent.load("vllm.distributed.weight_transfer.factory")
        warm_parent.load("e3mega.weights.engines.shared_memory")

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        address = json.loads(self.paths.address(0).read_text())
        return address["host"], address["port"]

    @property
    def key(self) -> str:
        """What every request must carry."""
        return self.paths.key.read_text().strip()

    @contextmanager
    def run(
        self, folder: Path, *sets: str, source: str = "", fault: faults.Fault | None = None
    ) -> Iterator["ServedRun"]:
        """A run that the server serves, with a learner of two forked ranks at work.

        ``source`` names a source of ``learner_jobs`` that stands for the learner's own.
        """
        plan, paths = make_run(folder / "run", *SPREAD, *sets)
        shutil.copy(self.paths.key, paths.key)
        paths.address(0).parent.mkdir()
        shutil.copy(self.paths.address(0), paths.address(0))
        faults.set_fault(paths.shared_memory, fault)
        learner = self._warm_parent.start(
            plan.layout.learner,
            "tests.e2e.learner_jobs:serve",
            run_dir=str(paths.run_dir),
            source=source,
        )
        run = ServedRun(plan, paths, learner)
        try:
            yield run
        finally:
            run.end()
            shutil.rmtree(paths.shared_memory, ignore_errors=True)


class ServedRun:
    """A run folder, its plan, and the learner that obeys its commands."""

    def __init__(self, plan: Plan, paths: RunPaths, learner: GridJob) -> None:
        self.plan = plan
        self.paths = paths
        self._learner = learner
        self._has_ended = False
        self.metrics = MetricsWriter(paths.metrics("loop"))

    def jobs(self) -> Jobs:
        """What a loop works with."""
        return build_jobs(self.plan, self.paths, 0, self.metrics, segment=0)

    def end(self) -> str:
        """Have the learner stop if it still waits; what its failed ranks said."""
        if self._has_ended:
            return ""
        self._has_ended = True
        self.metrics.close()
        folder = self.paths.attempt_commands(0, 0)
        stop = Command(len(list(folder.glob("*[0-9].json"))), CommandKind.STOP)
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(command_file(folder, stop.index), TypeAdapter(Command).dump_json(stop))
        return self._learner.wait()[1]

    def events(self, kind: str) -> list[dict[str, object]]:
        """The loop's metrics of one kind."""
        events = read_metrics(self.paths.metrics("loop"))
        return [dict(event) for event in events if event["event"] == kind]
