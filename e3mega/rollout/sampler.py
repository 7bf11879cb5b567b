"""Samples the groups of a round from the tier and keeps each as it finishes."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from e3mega.errors import TierError
from e3mega.rollout.buffer import GroupStore
from e3mega.rollout.records import Completion, Group, GroupRequest, Rollout
from e3mega.tasks.interface import Marks, Prompt

Mark = Callable[[Prompt, Sequence[int]], Marks]


class Generator(Protocol):
    """One generation server, as the sampler needs it."""

    async def generate(self, request: GroupRequest) -> tuple[Completion, ...]:
        """All samples of one prompt; raises TierError."""
        ...


@dataclass(frozen=True, slots=True)
class SampledRound:
    """The groups of a round in the order of their requests. Example: ``SampledRound((), 0, 0)``."""

    groups: tuple[Group, ...]
    num_reused: int
    """Groups that an earlier attempt had finished; they were read from disk."""
    num_redrawn: int
    """Groups that an earlier attempt had sent and lost; they were sent again."""


class Sampler:
    """Spreads groups over the servers by the number of groups each is working on.

    Consumes requests, produces finished groups in the order of the requests; waits for the
    servers; unblocked by their answers. A group stays with one server.
    """

    def __init__(self, generators: Sequence[Generator], mark: Mark) -> None:
        self._generators = tuple(generators)
        self._depths = [0] * len(self._generators)
        self._mark = mark

    async def sample(self, requests: Sequence[GroupRequest], store: GroupStore) -> SampledRound:
        """Finish every request; groups that the store already holds are not generated again.

        Raises TierError, with what finished before it kept in the store.
        """
        begun = store.begin(requests)
        groups = dict(begun.finished)
        tasks = [
            asyncio.create_task(self._one(request))
            for request in requests
            if request.index not in groups
        ]
        try:
            for finished in asyncio.as_completed(tasks):
                group = await finished
                store.append(group)
                groups[group.request.index] = group
        finally:
            for task in tasks:
                task.cancel()
        in_order = tuple(groups[request.index] for request in requests)
        store.close(in_order)
        return SampledRound(in_order, len(begun.finished), begun.num_redrawn)

    async def _one(self, request: GroupRequest) -> Group:
        replica = min(range(len(self._depths)), key=self._depths.__getitem__)
        self._depths[replica] += 1
        try:
            completions = await self._generators[replica].generate(request)
        finally:
            self._depths[replica] -= 1
        if len(completions) != request.num_samples:
            raise TierError(
                f"generation_{replica} answered {len(completions)} samples for prompt "
                f"{request.index}; {request.num_samples} were asked for"
            )
        rollouts = tuple(
            Rollout(completion, self._mark(request.prompt, completion.token_ids))
            for completion in completions
        )
        return Group(request, rollouts)
