"""Runs whose loop trains among fakes, halted in the middle of a round, and what comes of them."""

import os
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from e3mega.metrics import Json, read_metrics
from e3mega.plan.compile import compile_plan
from e3mega.plan.planfile import JobPlan, Plan, Role
from e3mega.spec.resolve import find_spec, resolve_spec
from tests.unit.run.fake_runs import (
    STARTS,
    WAITS,
    attempts_of,
    finish,
    processes_of,
    resume_command,
    start,
    wait_for,
)
from tests.unit.run.fault_runs import Started

ROOT = Path(__file__).parents[3]
LEARNS = "while not (run_dir / f'over_{sys.argv[2]}').exists(): time.sleep(0.02)\n"


def training_plan(*more: str, **cluster: float | str) -> Plan:
    """The small run, its loop among fakes and nobody at the other jobs; ``more`` are settings."""
    sets = ["checkpoint.every_rounds=1", *more, *(f"cluster.{k}={v}" for k, v in cluster.items())]
    plan = compile_plan(resolve_spec(find_spec("quickstart-small"), sets=sets).options)
    loop = ("{python}", "-m", "tests.unit.run.training_job", "{run_dir}", "{attempt}")
    path = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), str(ROOT))))

    def job(name: str, role: Role, script: str) -> JobPlan:
        return JobPlan(name, role, ("{python}", "-c", script, "{run_dir}", "{attempt}"), {}, 0)

    parts = ("learner", "learner_1")[: plan.cluster.learner_nodes]
    jobs = (
        job("generation_0", Role.GENERATION, STARTS + WAITS),
        *(job(part, Role.LEARNER, STARTS + LEARNS) for part in parts),
        JobPlan("loop", Role.LOOP, loop, {"PYTHONPATH": path}, 0),
    )
    return replace(plan, jobs=jobs)


@dataclass
class Struck:
    """A run at a halt in the middle of a round, and the command that runs it."""

    started: Started
    command: subprocess.Popen[str]

    @property
    def run_dir(self) -> Path:
        """Of the run."""
        return self.started.run_dir

    def process(self, *words: str) -> psutil.Process:
        """The newest process of the run with these words in its command line."""
        return max(processes_of(self.run_dir, *words), key=lambda process: process.create_time())

    def kill(self, *words: str) -> None:
        """Kill a process of the run."""
        self.process(*words).kill()

    def go_on(self) -> None:
        """End the halt."""
        (self.run_dir / "halted").unlink()


def halted(started: Started, plan: Plan) -> Struck:
    """Start the run and wait until it halts in the middle of a round."""
    command = started.run(plan)

    def has_halted() -> bool:
        assert command.poll() is None, finish(command)
        return (started.run_dir / "halted").exists()

    wait_for(has_halted)
    return Struck(started, command)


def batches(run_dir: Path) -> dict[str, bytes]:
    files = sorted((run_dir / "batches").rglob("*.safetensors"))
    return {str(path.relative_to(run_dir)): path.read_bytes() for path in files}


def events(run_dir: Path, kind: str) -> list[dict[str, Json]]:
    path = run_dir / "metrics" / "loop.jsonl"
    return [event for event in read_metrics(path) if event["event"] == kind]


def resume(run_dir: Path) -> tuple[int, list[str]]:
    command = start(resume_command(run_dir))
    lines = finish(command)
    return command.returncode, lines


def assert_nothing_is_lost(run_dir: Path, whole: Path, *, has_taken_again: bool = False) -> None:
    """The run is finished, as if nothing had happened; no process of it is left.

    Steps after a checkpoint that is lost are taken again, to the same batches.
    """
    assert attempts_of(run_dir)[-1]["exit"] == 0
    assert batches(run_dir) == batches(whole) != {}
    steps, wanted = ([e["step"] for e in events(d, "step")] for d in (run_dir, whole))
    assert (sorted(set(steps)) if has_taken_again else steps) == wanted
    ledger, straight = (events(d, "ledger")[-1] for d in (run_dir, whole))
    assert ledger["prompts_redrawn"] == ledger["prompts_lost"]
    for name in ("prompts_answered", "generated", "trained", "supervised", "evaluated"):
        assert ledger[name] == straight[name], name
    assert processes_of(run_dir) == []
