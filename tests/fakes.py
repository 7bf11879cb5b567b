"""Fakes of the loop's neighbours, after the same Protocols as the real ones."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from e3mega.errors import TierError
from e3mega.plan.paths import RunPaths
from e3mega.rollout.batch_file import read_batch
from e3mega.rollout.records import (
    Command,
    CommandKind,
    Completion,
    FinishReason,
    GroupRequest,
    Reply,
    VersionSpan,
)
from e3mega.tasks.interface import Task


class Killed(Exception):
    """Stands for kill -9 of the loop."""


@dataclass
class FakeServer:
    """Answers with traces of the task, chosen by the seed alone; serves one version at a time."""

    task: Task
    served: int = 0
    num_generated: int = 0
    kill_after: int | None = None
    """Groups after which the loop is killed."""
    leave_after: int | None = None
    """Groups after which the loop is asked to leave, by ``asked_to_leave``."""
    asked_to_leave: asyncio.Event | None = None
    fail_at: set[int] = field(default_factory=set)
    """Counts of generated groups at which the server's process dies, once each."""
    restart_s: float | None = 0.0
    """How long a new process takes to start after one died; None if none is started."""
    num_started: int = 1
    end: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the process ends while nothing is asked of it."""

    async def wait_until_ready(self, deadline_s: float) -> None:
        """Ready at once at first, then when it was started again."""
        if self.num_started > 1:
            await asyncio.sleep(deadline_s if self.restart_s is None else self.restart_s)
        if self.restart_s is None and self.num_started > 1:
            raise TierError("it was not started again")

    async def wait_until_gone(self) -> str:
        """As its supervisor would tell it."""
        await self.end.wait()
        return "its process ended"

    def forget(self) -> int | None:
        """The next process has no weights."""
        self.num_started += 1
        self.end = asyncio.Event()
        self.served = -1
        return self.num_started - 1

    async def generate(self, request: GroupRequest) -> tuple[Completion, ...]:
        """Cut traces: some end, some are truncated."""
        assert self.served == request.version, "a request came before its weights"
        await asyncio.sleep(0)
        if self.asked_to_leave is not None and self.num_generated == self.leave_after:
            self.asked_to_leave.set()
        if self.num_generated in self.fail_at:
            self.fail_at.remove(self.num_generated)
            raise TierError("the server is gone")
        if self.kill_after is not None and self.num_generated >= self.kill_after:
            raise Killed
        self.num_generated += 1
        return tuple(self._sample(request, request.seed + k) for k in range(request.num_samples))

    def _sample(self, request: GroupRequest, seed: int) -> Completion:
        rng = np.random.default_rng([seed % 2**32, seed >> 32])
        tokens = self.task.trace(int(rng.integers(1000))).token_ids
        reason = FinishReason.STOP
        if len(tokens) > request.max_tokens:
            tokens, reason = tokens[: request.max_tokens], FinishReason.LENGTH
        logprobs = tuple(float(x) for x in -rng.random(len(tokens)))
        return Completion(tokens, logprobs, reason, (VersionSpan(self.served, 0, len(tokens)),))

    async def score(self, token_ids: tuple[int, ...]) -> list[float]:
        """What FakeLearner scores."""
        return [-1.0] * (len(token_ids) - 1)

    async def close(self) -> None:
        """Nothing to close."""


@dataclass
class FakeLearner:
    """Takes commands, checks that they come in order, and keeps what it was given."""

    paths: RunPaths
    servers: tuple[FakeServer, ...] = ()
    version: int = 0
    commands: list[Command] = field(default_factory=list)
    refused_syncs: set[tuple[int, int]] = field(default_factory=set)
    """Servers that do not take a sync, each with which of its syncs, counted from 0."""
    num_syncs: dict[int, int] = field(default_factory=dict)
    drifts: bool = False
    """Whether its log-probabilities leave the servers'."""

    async def send(self, command: Command, *, deadline_s: float) -> Reply:
        """Do as the real learner would, without weights."""
        assert command.index == len(self.commands)
        assert command.version == self.version, "the loop and the learner count steps differently"
        self.commands.append(command)
        if command.kind is CommandKind.TRAIN:
            return self._train(command)
        if command.kind is CommandKind.SCORE:
            shape = read_batch(self.paths.run_dir / command.batch_files[0]).tokens_NT.shape
            values = np.full(shape, -2.0 if self.drifts else -1.0, dtype=np.float32)
            save_file({"logprobs": values}, self.paths.run_dir / command.output_file)
        if command.kind is CommandKind.SYNC:
            return self._sync(command)
        if command.kind is CommandKind.CHECKPOINT:
            folder = self.paths.checkpoint(command.version)
            folder.mkdir(parents=True)
            self.paths.loop_state(folder).write_text(command.loop_state)
        return Reply(command.index, seconds=0.01)

    def _sync(self, command: Command) -> Reply:
        lost: dict[int, str] = {}
        for index in command.servers:
            number = self.num_syncs.get(index, 0)
            self.num_syncs[index] = number + 1
            if (index, number) in self.refused_syncs:
                lost[index] = f"generation_{index} took nothing"
            else:
                self.servers[index].served = command.version
        return Reply(command.index, seconds=0.01, lost_servers=lost)

    def _train(self, command: Command) -> Reply:
        steps = []
        for name in command.batch_files:
            batch = read_batch(self.paths.run_dir / name)
            assert batch.step == self.version
            self.version += 1
            steps.append({"loss": 1.0, "tokens": float(batch.mask_NT.sum())})
        return Reply(command.index, seconds=0.01, steps=tuple(steps))


def newest_state(paths: RunPaths) -> Path:
    """The loop state of the newest checkpoint that FakeLearner wrote."""
    return paths.loop_state(max(paths.checkpoints.iterdir()))
