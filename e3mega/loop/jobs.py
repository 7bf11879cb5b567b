"""What the loop holds while it runs: plan, paths, the other jobs, metrics and timings."""

import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from e3mega.metrics import MetricsWriter
from e3mega.plan.paths import RunPaths
from e3mega.plan.planfile import Plan
from e3mega.rollout.records import Command, CommandKind, Completion, GroupRequest, Reply
from e3mega.rollout.sampler import Sampler
from e3mega.tasks.interface import Task

# The learner's first reply waits for its start; steps and syncs have the same generous bound,
# since the supervisor ends the run long before if the learner dies.
LEARNER_DEADLINE_S = 1800.0


class Server(Protocol):
    """One generation server, as the loop needs it."""

    async def wait_until_ready(self, deadline_s: float) -> None:
        """Return when the server answers; raises TierError at the deadline."""
        ...

    async def generate(self, request: GroupRequest) -> tuple[Completion, ...]:
        """All samples of one prompt."""
        ...

    async def score(self, token_ids: tuple[int, ...]) -> list[float]:
        """Log-probability of each token but the first, in nats, at temperature 1."""
        ...


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
    servers: tuple[Server, ...]
    samplers: tuple[Sampler, ...]
    """One per stage: marks with the stage's task."""
    metrics: MetricsWriter
    timings: dict[str, float] = field(default_factory=dict[str, float])
    """Seconds spent since the last round, by kind of work."""
    num_commands: int = 0
    last_round_end: float = field(default_factory=time.monotonic)

    async def command(self, kind: CommandKind, **values: object) -> Reply:
        """Send the next command to the learner; raises JobError with the learner's own reason."""
        command = Command(self.num_commands, kind, **values)  # pyright: ignore[reportArgumentType] -- the fields differ by kind; Command checks their names
        self.num_commands += 1
        return await self.learner.send(command, deadline_s=LEARNER_DEADLINE_S)

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
