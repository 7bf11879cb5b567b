"""A loop job that trains: the real loop among fakes, ``python -m`` this, RUN_DIR ATTEMPT [served].

In the first attempt it comes to a halt in the middle of a round, after ``HALT_AFTER`` groups, and
leaves a file ``halted``; it goes on when that is removed. With ``served`` it asks the process of
``serving_job`` by the real client. A file of ``SPOILT`` spoils the learner's next step.
"""

import asyncio
import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from e3mega.checkpoint.manifest import Lineage, Manifest, TrainedStage, file_facts, write_manifest
from e3mega.errors import E3Error, JobError
from e3mega.generation.client import GenerationClient
from e3mega.loop.controller import Controller
from e3mega.loop.jobs import Jobs
from e3mega.loop.leave import asked_by_signal, run_or_leave
from e3mega.loop.tier import Server, Tier
from e3mega.loop.wiring import first_state
from e3mega.metrics import MetricsWriter
from e3mega.plan.paths import RunPaths
from e3mega.plan.planfile import LEFT_STATUS, Plan, read_plan
from e3mega.rollout.records import Command, CommandKind, Completion, GroupRequest, Reply
from e3mega.tasks.countdown.task import CountdownTask
from tests.fakes import FakeLearner, FakeServer

HALT_AFTER = 61
"""Groups: behind checkpoints of two rounds, with half of the groups of the next on disk."""
DEADLINE_S = 10.0
"""For an answer of the server."""
GRADIENT, WEIGHTS = SPOILT = ("nan_gradient", "nan_weights")


@dataclass
class Halt:
    """A halt as long as a file is there that it makes itself; None where there is none."""

    file: Path | None
    num_asked: int = 0

    async def pause(self) -> None:
        """Half of the groups of a round are finished while others wait."""
        self.num_asked += 1
        if self.file is None or self.num_asked < HALT_AFTER:
            return
        if self.num_asked == HALT_AFTER:
            self.file.touch()
        while self.file.exists():
            await asyncio.sleep(0.02)


@dataclass
class HaltingServer(FakeServer):
    """Comes to a halt once."""

    halt: Halt | None = None

    async def generate(self, request: GroupRequest) -> tuple[Completion, ...]:
        """As the fake, when the halt is over."""
        assert self.halt is not None
        await self.halt.pause()
        return await super().generate(request)


class HaltingClient(GenerationClient):
    """The real client of a server, which comes to a halt once."""

    halt: Halt

    async def generate(self, request: GroupRequest) -> tuple[Completion, ...]:
        """As the client, when the halt is over."""
        await self.halt.pause()
        return await super().generate(request)


@dataclass
class FilingLearner(FakeLearner):
    """Its checkpoints are complete, as the real one's are."""

    plan: Plan | None = None
    client: GenerationClient | None = None
    """Of the server that is told what it has."""

    async def send(self, command: Command, *, deadline_s: float) -> Reply:
        """As the fake, with a manifest of each checkpoint."""
        if command.kind is CommandKind.CHECKPOINT:
            # As the real one, it writes over what is not complete.
            shutil.rmtree(self.paths.checkpoint(command.version), ignore_errors=True)
        if command.kind is CommandKind.TRAIN and (self.paths.run_dir / GRADIENT).exists():
            raise JobError(f"command {command.index} (train): the gradient of layer 3 is nan")
        reply = await super().send(command, deadline_s=deadline_s)
        if command.kind is CommandKind.SCORE and (self.paths.run_dir / WEIGHTS).exists():
            scores = self.paths.run_dir / command.output_file
            spoilt = np.full_like(load_file(scores)["logprobs"], np.nan)
            save_file({"logprobs": spoilt}, scores)
        if command.kind is CommandKind.SYNC and self.client is not None:
            await self.client.label_weights(command.version)
        if command.kind is CommandKind.CHECKPOINT and self.plan is not None:
            folder = self.paths.checkpoint(command.version)
            (folder / "weights").write_text(str(command.version))
            write_manifest(folder, _manifest(self.plan, command, folder))
        return reply


def _manifest(plan: Plan, command: Command, folder: Path) -> Manifest:
    names = [stage.name for stage in plan.stages]
    trained = tuple(
        TrainedStage(stage.name, stage.fingerprint, 1, {}, 1.0)
        for stage in plan.stages[: names.index(command.stage) + 1]
    )
    return Manifest(
        version=command.version,
        stage=command.stage,
        model=plan.model,
        layout=plan.layout.learner,
        lineage=Lineage(plan.name, plan.seed, "test", plan.run_fingerprint, trained),
        has_optimizer=True,
        score=command.score,
        files=file_facts(folder),
    )


def client_of(plan: Plan, paths: RunPaths, halt: Halt) -> HaltingClient:
    """The client of the run's server, as the real loop has one."""
    task = CountdownTask(plan.stages[0].task, plan.seed)
    client = HaltingClient(
        address_file=paths.address(0),
        key=paths.key.read_text().strip(),
        end_token_ids=task.end_token_ids,
        deadline_s=DEADLINE_S,
    )
    client.halt = halt
    return client


async def train(paths: RunPaths, attempt: int, metrics: MetricsWriter, *, is_served: bool) -> bool:
    """Run the plan from where the folder stands; whether the run left at a checkpoint."""
    asked = asked_by_signal()
    plan = read_plan(paths.plan)
    metrics.write("run_started", name=plan.name, seed=plan.seed, attempt=attempt)
    state = first_state(paths, metrics)
    tasks = tuple(CountdownTask(stage.task, plan.seed) for stage in plan.stages)
    halt = Halt(paths.run_dir / "halted" if attempt == 0 else None)
    fake = HaltingServer(tasks[0], halt=halt)
    client = client_of(plan, paths, halt) if is_served else None
    servers: tuple[Server, ...] = (fake if client is None else client,)
    paths.scores.mkdir(parents=True, exist_ok=True)
    learner = FilingLearner(paths, (fake,), version=state.version, plan=plan, client=client)
    jobs = Jobs(
        plan=plan,
        paths=paths,
        tasks=tasks,
        learner=learner,
        open_learner=lambda _: learner,
        tier=Tier(servers, metrics, start_deadline_s=60.0),
        metrics=metrics,
    )
    try:
        return await run_or_leave(Controller(jobs, state), asked)
    finally:
        await jobs.tier.close()


def main(run_dir: Path, attempt: int, *, is_served: bool) -> int:
    """As the loop's own process; a file says to the learner's that it may leave."""
    paths = RunPaths(run_dir)
    metrics = MetricsWriter(paths.metrics("loop"))
    try:
        has_left = asyncio.run(train(paths, attempt, metrics, is_served=is_served))
    except E3Error as error:
        print(json.dumps({"reason": str(error)}), file=sys.stderr)
        return error.exit_code
    (run_dir / f"over_{attempt}").touch()
    return LEFT_STATUS if has_left else 0


if __name__ == "__main__":
    is_served = sys.argv[3:] == ["served"]
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2]), is_served=is_served))
