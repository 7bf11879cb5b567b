"""Finished groups for a measurement, from the cache or from servers."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from e3mega.evaluate.store import CompletionStore
from e3mega.rollout.records import Completion, Group, GroupRequest, Rollout
from e3mega.tasks.interface import Task


class Generator(Protocol):
    """One generation server, as an evaluation needs it."""

    async def generate(self, request: GroupRequest) -> tuple[Completion, ...]:
        """All samples of one prompt; raises TierError."""
        ...

    async def score(self, token_ids: tuple[int, ...]) -> list[float]:
        """Log-probability of each token but the first, in nats, at temperature 1."""
        ...


class NoServer:
    """Stands where everything is expected to be in the cache; being asked is how one knows."""

    async def generate(self, request: GroupRequest) -> tuple[Completion, ...]:
        """Raises NotCachedError."""
        raise NotCachedError(f"prompt {request.index} is not in the cache")

    async def score(self, token_ids: tuple[int, ...]) -> list[float]:
        """Raises NotCachedError."""
        raise NotCachedError(f"the score of {len(token_ids)} tokens is not in the cache")


class NotCachedError(Exception):
    """An evaluation needs completions that no server has been started for yet."""


@dataclass(slots=True)
class Source:
    """Completions of one model: the store first, then the servers by turns."""

    generators: Sequence[Generator]
    store: CompletionStore
    max_in_flight: int
    watch: Callable[["Source"], None] | None = None
    """Called with the source whenever it has one more answer."""
    num_asked: int = 0
    """Requests for completions or scores so far."""
    num_answered: int = 0
    """Of those, the ones answered, by the store or by a server."""
    num_generated: int = 0
    """Completion tokens generated, and not read back, so far."""
    num_reused: int = 0
    """Completion tokens read back from the store."""
    _gate: asyncio.Semaphore = field(init=False)

    def __post_init__(self) -> None:
        self._gate = asyncio.Semaphore(self.max_in_flight)

    async def groups(self, requests: Sequence[GroupRequest], task: Task) -> tuple[Group, ...]:
        """Judged groups in the order of the requests, each judged as soon as it is answered."""
        return await _together([self._judged(request, task) for request in requests])

    async def _judged(self, request: GroupRequest, task: Task) -> Group:
        completions = await self._one(request)
        judged = [task.judge(request.prompt, each.token_ids) for each in completions]
        return Group(request, tuple(map(Rollout, completions, await _together(judged))))

    async def completions(
        self, requests: Sequence[GroupRequest]
    ) -> tuple[tuple[Completion, ...], ...]:
        """All samples of each request, in order; each answer is kept as it comes.

        Raises what a server raises, with what was answered before it kept.
        """
        return await _together([self._one(request) for request in requests])

    async def scores(self, sequences: Sequence[tuple[int, ...]]) -> tuple[list[float], ...]:
        """Log-probabilities, in nats at temperature 1, of each sequence's tokens but the first."""
        return await _together([self._score(place, each) for place, each in enumerate(sequences)])

    async def _score(self, place: int, token_ids: tuple[int, ...]) -> list[float]:
        self.num_asked += 1
        known = self.store.score(token_ids)
        if known is None:
            async with self._gate:
                known = await self.generators[place % len(self.generators)].score(token_ids)
            self.store.put_score(token_ids, known)
        self._count_answer()
        return known

    async def _one(self, request: GroupRequest) -> tuple[Completion, ...]:
        self.num_asked += 1
        known = self.store.get(request)
        if known is not None:
            self.num_reused += sum(len(completion.token_ids) for completion in known)
            self._count_answer()
            return known
        async with self._gate:
            generator = self.generators[request.index % len(self.generators)]
            answer = await generator.generate(request)
        self.store.put(request, answer)
        self.num_generated += sum(len(completion.token_ids) for completion in answer)
        self._count_answer()
        return answer

    def _count_answer(self) -> None:
        self.num_answered += 1
        if self.watch is not None:
            self.watch(self)


async def _together[Answer](work: Sequence[Coroutine[Any, Any, Answer]]) -> tuple[Answer, ...]:
    """All results in order; when one fails, the others are ended and its error is raised."""
    tasks = [asyncio.create_task(each) for each in work]
    try:
        return tuple(await asyncio.gather(*tasks))
    finally:
        for each in tasks:
            each.cancel()
