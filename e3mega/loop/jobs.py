"""What the loop holds while it runs: plan, paths, the other jobs, metrics and timings."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from e3mega.loop.prompts import PromptSource
from e3mega.loop.tier import Tier
from e3mega.metrics import MetricsWriter
from e3mega.plan.paths import RunPaths
from e3mega.plan.planfile import Plan, StagePlan
from e3mega.rollout.records import Command, CommandKind, Reply
from e3mega.rollout.sampler import Sampler
from e3mega.tasks.interface import Task

# The learner's first reply waits for its start; steps and syncs have the same generous bound,
# since the supervisor ends the run long before if the learner dies.
LEARNER_DEADLINE_S = 1800.0


class Learner(Protocol):
    """The sending end of the channel to the learner."""

    async def send(self, command: Command, *, deadline_s: float) -> Reply:
        """Hand over a command and wait for its reply."""
        ...


@dataclass(slots=True)
class Jobs:
    """Everything the loop works with; one per attempt."""

    plan: Plan
    paths: RunPaths
    tasks: tuple[Task, ...]
    """One per stage: the stage's slice of the data."""
    learner: Learner
    open_learner: Callable[[int], Learner]
    """The sending end to the learner of a segment."""
    tier: Tier
    metrics: MetricsWriter
    timings: dict[str, float] = field(default_factory=dict[str, float])
    """Seconds spent since the last round, by kind of work."""
    sources: dict[int, PromptSource] = field(default_factory=dict[int, PromptSource])
    """By index of the stage, made when first asked for."""
    num_commands: int = 0
    learner_version: int | None = None
    """Version that the learner has, by its last command; None before the first."""
    last_round_end: float = field(default_factory=time.monotonic)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    def sampler(self, stage_index: int) -> Sampler:
        """What samples for a stage: it marks with the stage's task."""
        return Sampler(self.tier, self.tasks[stage_index].judge)

    @asynccontextmanager
    async def learner_turn(self) -> AsyncGenerator[None]:
        """Within the block no command but the caller's goes to the learner."""
        async with self._turn:
            yield

    def prompts(self, stage: StagePlan) -> PromptSource:
        """The stage's stream of prompts."""
        if stage.index not in self.sources:
            self.sources[stage.index] = PromptSource(
                self.tasks[stage.index],
                stage.data,
                seed=self.plan.seed,
                stage_index=stage.index,
            )
        return self.sources[stage.index]

    async def enter_segment(self, segment: int, version: int) -> None:
        """Let the learner go and talk to the one of the segment, which loads its checkpoint."""
        await self.command(CommandKind.STOP, version=version)
        self.learner = self.open_learner(segment)
        self.num_commands = 0

    async def command(self, kind: CommandKind, **values: object) -> Reply:
        """Send a command in its turn; raises JobError with the learner's own reason."""
        async with self.learner_turn():
            return await self.send(kind, **values)

    async def send(self, kind: CommandKind, **values: object) -> Reply:
        """Send the next command to the learner; the caller has the turn."""
        command = Command(self.num_commands, kind, **values)  # pyright: ignore[reportArgumentType] -- the fields differ by kind; Command checks their names
        self.num_commands += 1
        if kind is CommandKind.TRAIN:
            self.learner_version = None
        reply = await self.learner.send(command, deadline_s=LEARNER_DEADLINE_S)
        trained = len(reply.steps) if kind is CommandKind.TRAIN else 0
        self.learner_version = command.version + trained
        return reply

    @contextmanager
    def timed(self, kind: str) -> Generator[None]:
        """Add the seconds of the block to the timings of the round."""
        start = time.monotonic()
        try:
            yield
        finally:
            self.timings[kind] = self.timings.get(kind, 0.0) + time.monotonic() - start

    def take_timings(self) -> dict[str, float]:
        """The timings since the last call."""
        timings, self.timings = self.timings, {}
        return timings

    def take_round_seconds(self) -> float:
        """Seconds since the last call."""
        now = time.monotonic()
        seconds, self.last_round_end = now - self.last_round_end, now
        return seconds
