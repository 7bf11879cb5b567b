"""What an attempt tells the next one, against a slow account with a language model by hand."""

import asyncio
import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from e3mega.evaluate.attempt_context import attempt_contexts
from e3mega.evaluate.sampling import Source
from e3mega.evaluate.store import CompletionStore
from e3mega.rollout.records import Completion, FinishReason, Group, GroupRequest, Rollout
from e3mega.tasks.countdown.options import CountdownOptions
from e3mega.tasks.countdown.task import CountdownTask
from tests.fakes import FakeServer

TASK = CountdownTask(CountdownOptions(kind="countdown"), 1)


class Repeater(FakeServer):
    """A token is the likelier the more often it occurred before."""

    num_scored = 0

    async def score(self, token_ids: tuple[int, ...]) -> list[float]:
        self.num_scored += 1
        return [logprob(token_ids, place) for place in range(1, len(token_ids))]


def logprob(token_ids: tuple[int, ...], place: int) -> float:
    seen = token_ids[:place].count(token_ids[place])
    return math.log((1 + seen) / (200 + place))


def groups(count: int) -> list[Group]:
    made: list[Group] = []
    for index in range(count):
        trace = TASK.trace(index)
        completion = Completion(trace.token_ids, (), FinishReason.STOP, ())
        request = GroupRequest(index, trace.prompt, 1, 200, 1.0, 1.0, 0, 1, 0)
        marks = TASK.mark(trace.prompt, trace.token_ids)
        made.append(Group(request, (Rollout(completion, marks),)))
    return made


def slow(group: Group, k: int) -> tuple[float, float, float]:
    """Word by word, with every context written out."""
    prompt, tokens = group.request.prompt.token_ids, group.rollouts[0].completion.token_ids
    ends = (0, *group.rollouts[0].marks.attempts_at)
    parts = [tokens[a:b] for a, b in pairwise(ends)]

    def mean(context: list[tuple[int, ...]], part: tuple[int, ...]) -> float:
        head = prompt + tuple(t for each in context for t in each)
        whole = head + part
        return float(np.mean([logprob(whole, len(head) + i) for i in range(len(part))]))

    this = mean(parts[: k - 1], parts[k - 1])
    return (
        this - mean(parts[: k - 2], parts[k - 1]),
        this - mean(parts[: k - 2], parts[k - 2]),
        mean(parts[: k - 1], parts[k - 2]),
    )


def test_the_three_quantities_are_those_of_a_slow_account(tmp_path: Path) -> None:
    server = Repeater(TASK)
    source = Source((server,), CompletionStore(tmp_path, "0" * 64), max_in_flight=3)
    recorded = groups(60)
    work = attempt_contexts(recorded, TASK, source, num_problems=20, max_attempts=4)
    points = asyncio.run(work)
    chained = [g for g in recorded if len(g.rollouts[0].marks.attempts_at) > 1][:20]
    assert [point.attempt for point in points] == [2, 3, 4]
    for point in points:
        long = [g for g in chained if len(g.rollouts[0].marks.attempts_at) >= point.attempt]
        assert point.num_completions == len(long)
        rows = np.array([slow(group, point.attempt) for group in long])
        found = (point.context, point.progress, point.repeat)
        assert found == pytest.approx(tuple(rows.mean(axis=0)), rel=1e-9)
        spread = rows[:, 0].std(ddof=1) / math.sqrt(len(long))
        assert point.context_stderr == pytest.approx(spread, rel=1e-9)
    assert min(point.context for point in points) > 0, "what was said before is likelier"


def test_tokens_are_scored_once(tmp_path: Path) -> None:
    scored: list[int] = []
    for _ in range(2):
        server = Repeater(TASK)
        source = Source((server,), CompletionStore(tmp_path, "0" * 64), max_in_flight=3)
        work = attempt_contexts(groups(20), TASK, source, num_problems=9, max_attempts=9)
        asyncio.run(work)
        scored.append(server.num_scored)
    assert scored[0] > 20 and scored[1] == 0
