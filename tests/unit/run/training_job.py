"""A loop job that trains: the real loop among fakes, ``python -m`` this, RUN_DIR ATTEMPT.

In the first attempt it comes to a halt in the middle of a round, after ``HALT_AFTER`` groups, and
leaves a file ``halted``; it goes on when that is removed.
"""

import asyncio
import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from e3mega.checkpoint.manifest import Lineage, Manifest, file_facts, write_manifest
from e3mega.errors import E3Error
from e3mega.loop.controller import Controller
from e3mega.loop.jobs import Jobs
from e3mega.loop.leave import asked_by_signal, run_or_leave
from e3mega.loop.tier import Tier
from e3mega.loop.wiring import first_state
from e3mega.metrics import MetricsWriter
from e3mega.plan.paths import RunPaths
from e3mega.plan.planfile import LEFT_STATUS, Plan, read_plan
from e3mega.rollout.records import Command, CommandKind, Completion, GroupRequest, Reply
from e3mega.tasks.countdown.task import CountdownTask
from tests.fakes import FakeLearner, FakeServer

HALT_AFTER = 61
"""Groups: behind checkpoints of two rounds, with half of the groups of the next on disk."""


@dataclass
class HaltingServer(FakeServer):
    """Comes to a halt as long as a file is there that it makes itself."""

    halted: Path | None = None
    num_asked: int = 0

    async def generate(self, request: GroupRequest) -> tuple[Completion, ...]:
        """Half of the groups are finished while others wait."""
        self.num_asked += 1
        if self.halted is not None and self.num_asked == HALT_AFTER:
            self.halted.touch()
        if self.halted is not None and self.num_asked >= HALT_AFTER:
            while self.halted.exists():
                await asyncio.sleep(0.02)
        return await super().generate(request)


@dataclass
class FilingLearner(FakeLearner):
    """Its checkpoints are complete, as the real one's are."""

    plan: Plan | None = None

    async def send(self, command: Command, *, deadline_s: float) -> Reply:
        """As the fake, with a manifest of each checkpoint."""
        if command.kind is CommandKind.CHECKPOINT:
            # As the real one, it writes over what is not complete.
            shutil.rmtree(self.paths.checkpoint(command.version), ignore_errors=True)
        reply = await super().send(command, deadline_s=deadline_s)
        if command.kind is CommandKind.CHECKPOINT and self.plan is not None:
            folder = self.paths.checkpoint(command.version)
            (folder / "weights").write_text(str(command.version))
            write_manifest(folder, _manifest(self.plan, command, folder))
        return reply


def _manifest(plan: Plan, command: Command, folder: Path) -> Manifest:
    return Manifest(
        version=command.version,
        stage=command.stage,
        model=plan.model,
        layout=plan.layout.learner,
        lineage=Lineage(plan.name, plan.seed, "test", plan.run_fingerprint, ()),
        has_optimizer=True,
        score=command.score,
        files=file_facts(folder),
    )


async def train(paths: RunPaths, attempt: int, metrics: MetricsWriter) -> bool:
    """Run the plan from where the folder stands; whether the run left at a checkpoint."""
    asked = asked_by_signal()
    plan = read_plan(paths.plan)
    metrics.write("run_started", name=plan.name, seed=plan.seed, attempt=attempt)
    state = first_state(paths, metrics)
    tasks = tuple(CountdownTask(stage.task, plan.seed) for stage in plan.stages)
    halted = paths.run_dir / "halted" if attempt == 0 else None
    servers = (HaltingServer(tasks[0], halted=halted),)
    paths.scores.mkdir(parents=True, exist_ok=True)
    learner = FilingLearner(paths, servers, version=state.version, plan=plan)
    jobs = Jobs(
        plan=plan,
        paths=paths,
        tasks=tasks,
        learner=learner,
        open_learner=lambda _: learner,
        tier=Tier(servers, metrics, start_deadline_s=60.0),
        metrics=metrics,
    )
    return await run_or_leave(Controller(jobs, state), asked)


def main(run_dir: Path, attempt: int) -> int:
    """As the loop's own process; a file says to the learner's that it may leave."""
    paths = RunPaths(run_dir)
    metrics = MetricsWriter(paths.metrics("loop"))
    try:
        has_left = asyncio.run(train(paths, attempt, metrics))
    except E3Error as error:
        print(json.dumps({"reason": str(error)}), file=sys.stderr)
        return error.exit_code
    (run_dir / f"over_{attempt}").touch()
    return LEFT_STATUS if has_left else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2])))
