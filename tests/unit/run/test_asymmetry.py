"""The asymmetry of a model through a fake server: bounded, cached, killed, gone on with."""

import asyncio
from pathlib import Path

import pytest

from e3mega.evaluate.sampling import NoServer, NotCachedError, Source
from e3mega.evaluate.store import CompletionStore
from e3mega.rollout.records import Completion, GroupRequest
from e3mega.run.measuring.asymmetry import AsymmetryOrder, Measured, measure_with
from e3mega.spec.schema.layout import GenerationLayout
from e3mega.spec.task_file import named_task
from e3mega.tasks.catalog import build_task
from tests.fakes import FakeServer, Killed

_, OPTIONS = named_task("countdown-3")
TASK = build_task(OPTIONS, 1, Path("unused"))
MAX_IN_FLIGHT = 5


class Busy(FakeServer):
    """Takes a while, and knows how many requests were at work together."""

    now = 0
    most = 0

    async def generate(self, request: GroupRequest) -> tuple[Completion, ...]:
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await asyncio.sleep(0)
            return await super().generate(request)
        finally:
            self.now -= 1


def order(folder: Path) -> AsymmetryOrder:
    return AsymmetryOrder(
        model=folder,
        task=OPTIONS,
        num_problems=12,
        num_samples=2,
        max_tokens=128,
        temperature=1.0,
        top_p=1.0,
        attempts=(1, 2),
        num_answers=2,
        answer_tokens=16,
        num_scored=4,
        seed=1,
        layout=GenerationLayout(),
        cache=folder / "cache",
        out=folder,
    )


def measured(folder: Path, server: FakeServer | NoServer) -> Measured:
    store = CompletionStore(folder / "cache", "0" * 64)
    source = Source((server,), store, max_in_flight=MAX_IN_FLIGHT)
    return asyncio.run(measure_with(order(folder), TASK, source))


def numbers(found: Measured) -> str:
    """As text, in which shares without cases, which are NaN, agree."""
    return repr((found.asymmetry, found.chained, found.contexts, found.pk, found.accuracy))


def test_requests_are_at_work_together_and_bounded(tmp_path: Path) -> None:
    server = Busy(TASK)
    found = measured(tmp_path, server)
    assert server.most == MAX_IN_FLIGHT
    # 12 prompts, then an answer behind each of 24 completions at two numbers of attempts.
    assert server.num_generated == 12 + 2 * 24
    assert found.num_completions == 24 and found.num_reused_tokens == 0
    assert [point.k for point in found.chained[0].points] == [1, 2, 4]
    assert [point.attempt for point in found.contexts][:1] == [2]


def test_a_killed_measurement_generates_nothing_twice(tmp_path: Path) -> None:
    whole = measured(tmp_path / "whole", Busy(TASK))
    num_generated = 0
    for kill_after in (1, 14, 30):
        server = Busy(TASK, kill_after=kill_after)
        with pytest.raises(Killed):
            measured(tmp_path / "killed", server)
        num_generated += server.num_generated
    last = Busy(TASK)
    resumed = measured(tmp_path / "killed", last)
    assert num_generated + last.num_generated == 60
    assert numbers(resumed) == numbers(whole)
    assert resumed.num_generated_tokens + resumed.num_reused_tokens == whole.num_generated_tokens
    again = measured(tmp_path / "killed", NoServer())
    assert numbers(again) == numbers(whole) and again.num_generated_tokens == 0


def test_without_a_server_what_was_never_answered_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotCachedError):
        measured(tmp_path, NoServer())
