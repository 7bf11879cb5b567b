"""Finished groups for a measurement, from the cache or from servers."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from e3mega.evaluate.store import CompletionStore
from e3mega.rollout.records import Completion, Group, GroupRequest, Rollout
from e3mega.tasks.interface import Task


class Generator(Protocol):
    """One generation server, as an evaluation needs it."""

    async def generate(self, request: GroupRequest) -> tuple[Completion, ...]:
        """All samples of one prompt; raises TierError."""
        ...


class NoServer:
    """Stands where everything is expected to be in the cache; being asked is how one knows."""

    async def generate(self, request: GroupRequest) -> tuple[Completion, ...]:
        """Raises NotCachedError."""
        raise NotCachedError(f"prompt {request.index} is not in the cache")


class NotCachedError(Exception):
    """An evaluation needs completions that no server has been started for yet."""


@dataclass(slots=True)
class Source:
    """Completions of one model: the store first, then the servers by turns."""

    generators: Sequence[Generator]
    store: CompletionStore
    max_in_flight: int
    num_generated: int = 0
    """Completion tokens generated, and not read back, so far."""
    num_reused: int = 0
    """Completion tokens read back from the store."""
    _gate: asyncio.Semaphore = field(init=False)

    def __post_init__(self) -> None:
        self._gate = asyncio.Semaphore(self.max_in_flight)

    async def groups(self, requests: Sequence[GroupRequest], task: Task) -> tuple[Group, ...]:
        """Judged groups in the order of the requests."""
        answers = await self.completions(requests)
        groups: list[Group] = []
        for request, completions in zip(requests, answers, strict=True):
            marks = [await task.judge(request.prompt, each.token_ids) for each in completions]
            groups.append(Group(request, tuple(map(Rollout, completions, marks))))
        return tuple(groups)

    async def completions(
        self, requests: Sequence[GroupRequest]
    ) -> tuple[tuple[Completion, ...], ...]:
        """All samples of each request, in order; each answer is kept as it comes.

        Raises what a server raises, with what was answered before it kept.
        """
        work = [asyncio.create_task(self._one(request)) for request in requests]
        try:
            return tuple([await each for each in work])
        finally:
            for each in work:
                each.cancel()

    async def _one(self, request: GroupRequest) -> tuple[Completion, ...]:
        known = self.store.get(request)
        if known is not None:
            self.num_reused += sum(len(completion.token_ids) for completion in known)
            return known
        async with self._gate:
            generator = self.generators[request.index % len(self.generators)]
            answer = await generator.generate(request)
        self.store.put(request, answer)
        self.num_generated += sum(len(completion.token_ids) for completion in answer)
        return answer
