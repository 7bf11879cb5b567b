"""Runs of small scripts that leave marks, on one node or two, and what ends them with the test."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from e3mega.plan.paths import RunPaths
from e3mega.plan.planfile import JobPlan, Plan, plan_to_json
from e3mega.run.creation import create_folder
from e3mega.spec.schema.cluster import ClusterOptions
from tests.unit.run.fake_runs import WAITS, command_of, fake_plan, processes_of, start

TWO_SERVERS = {"generation_0": WAITS, "generation_1": WAITS, "learner": WAITS, "loop": WAITS}
DIES = "os.kill(os.getpid(), signal.SIGKILL)\n"
MARKS = (
    "mark = run_dir / f'ran_{sys.argv[3]}__{os.getpid()}'\nmark.touch()\n"
    "if sys.argv[3] == 'loop': (run_dir / 'metrics' / 'loop.jsonl').touch()\n"
)
"""Leaves a file for every process of a job, and the loop's metrics."""


def marks(run_dir: Path, job: str) -> int:
    return len(list(run_dir.glob(f"ran_{job}__*")))


def until(job: str, count: int) -> str:
    """Script: wait until so many processes of a job have run."""
    return f"while len(list(run_dir.glob('ran_{job}__*'))) < {count}: time.sleep(0.02)\n"


def planned(scripts: dict[str, str], **cluster: object) -> Plan:
    """A plan of scripts that leave marks; arguments are those of the section cluster."""
    plan = fake_plan({name: MARKS + script for name, script in scripts.items()})
    jobs = tuple(replace(job, argv=(*job.argv, job.name)) for job in plan.jobs)
    return replace(plan, jobs=jobs, cluster=ClusterOptions.model_validate(cluster))


class Started:
    """A command at work, ended with the test."""

    def __init__(self, folder: Path) -> None:
        self.run_dir = folder / "run"
        self.paths = RunPaths(self.run_dir)
        self._folder = folder
        self._commands: list[subprocess.Popen[str]] = []

    def run(self, plan: Plan) -> subprocess.Popen[str]:
        file = self._folder / "plan.json"
        file.write_text(plan_to_json(plan))
        self._commands.append(start(command_of(file, self.run_dir)))
        return self._commands[-1]

    def node(self, rank: int, *words: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "e3mega.run.node", str(self.run_dir), "--launch", "test"]
        self._commands.append(
            subprocess.Popen(
                [*command, *words],
                env={**os.environ, "SLURM_PROCID": str(rank)},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
        return self._commands[-1]

    def close(self) -> None:
        for command in self._commands:
            command.kill()
        for process in processes_of(self.run_dir):
            process.kill()


def two_nodes(started: Started, scripts: dict[str, str], **cluster: object) -> Plan:
    """A run folder whose learner has a part on a second node."""
    parts = {**scripts, "learner_1": scripts["learner"]}
    plan = planned(parts, **{"learner_nodes": 2, **cluster})
    return created(started, on_node_1(plan, "learner_1"))


def on_node_1(plan: Plan, name: str) -> Plan:
    """The plan with one job on a second node."""

    def moved(job: JobPlan) -> JobPlan:
        return replace(job, node=1) if job.name == name else job

    return replace(plan, jobs=tuple(moved(job) for job in plan.jobs))


def created(started: Started, plan: Plan) -> Plan:
    """The plan, in a run folder."""
    started.run_dir.mkdir()
    create_folder(plan, "seed: 1\n", started.paths)
    return plan
