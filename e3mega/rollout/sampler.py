"""Samples the groups of a round from the tier and keeps each as it finishes."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from e3mega.errors import TierError
from e3mega.rollout.buffer import GroupStore
from e3mega.rollout.records import Completion, Group, GroupRequest, Rollout
from e3mega.tasks.interface import Marks, Prompt

Judge = Callable[[Prompt, Sequence[int]], Awaitable[Marks]]


@dataclass(frozen=True, slots=True)
class Answer:
    """What the tier gave for one prompt. Example: ``Answer((completion,), 0)``."""

    completions: tuple[Completion, ...]
    num_resent: int
    """Times that the request was sent again because a server was lost."""


class Generator(Protocol):
    """The tier, as the sampler needs it."""

    async def generate(self, request: GroupRequest) -> Answer:
        """All samples of one prompt; raises TierError."""
        ...


@dataclass(frozen=True, slots=True)
class SampledRound:
    """The groups of a round in the order of their requests. Example: ``SampledRound((), 0, 0)``."""

    groups: tuple[Group, ...]
    num_reused: int
    """Groups that an earlier attempt had finished; they were read from disk."""
    num_redrawn: int
    """Requests that an earlier attempt, or a server, had taken and lost; they were sent again."""


class Sampler:
    """Samples groups and marks them.

    Consumes requests, produces finished groups in the order of the requests; waits for the tier;
    unblocked by its answers.
    """

    def __init__(self, tier: Generator, judge: Judge) -> None:
        self._tier = tier
        self._judge = judge

    async def sample(self, requests: Sequence[GroupRequest], store: GroupStore) -> SampledRound:
        """Finish every request; groups that the store already holds are not generated again.

        Raises TierError, with what finished before it kept in the store.
        """
        begun = store.begin(requests)
        groups = dict(begun.finished)
        num_resent = 0
        tasks = [
            asyncio.create_task(self._one(request))
            for request in requests
            if request.index not in groups
        ]
        try:
            for finished in asyncio.as_completed(tasks):
                group, resent = await finished
                num_resent += resent
                store.append(group)
                groups[group.request.index] = group
        finally:
            for task in tasks:
                task.cancel()
        in_order = tuple(groups[request.index] for request in requests)
        store.close(in_order)
        return SampledRound(in_order, len(begun.finished), begun.num_redrawn + num_resent)

    async def _one(self, request: GroupRequest) -> tuple[Group, int]:
        answer = await self._tier.generate(request)
        if len(answer.completions) != request.num_samples:
            raise TierError(
                f"{len(answer.completions)} samples came for prompt {request.index}; "
                f"{request.num_samples} were asked for"
            )
        # In order: the groups in work keep the grading workers busy, and a verdict that needs no
        # worker lets nothing come between an answer and its journal.
        marks = [
            await self._judge(request.prompt, completion.token_ids)
            for completion in answer.completions
        ]
        rollouts = tuple(map(Rollout, answer.completions, marks))
        return Group(request, rollouts), answer.num_resent
