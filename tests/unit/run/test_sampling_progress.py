"""What ``e3mega eval`` and ``asymmetry`` show while servers start and answer."""

import asyncio
from pathlib import Path

import pytest

from e3mega.evaluate.sampling import NoServer, NotCachedError, Source
from e3mega.evaluate.store import CompletionStore
from e3mega.rollout.records import GroupRequest
from e3mega.run.measuring.sampling_progress import SamplingProgress
from e3mega.spec.task_file import named_task
from e3mega.tasks.catalog import build_task
from tests.fakes import FakeServer

TASK = build_task(named_task("countdown-3")[1], 1, Path("unused"))


def requests(count: int) -> list[GroupRequest]:
    prompts = TASK.held_out_prompts(count)
    return [
        GroupRequest(index, prompt, 1, 64, 1.0, 1.0, 0, 100 + index, 0)
        for index, prompt in enumerate(prompts)
    ]


def test_requests_are_counted_as_they_are_answered(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = CompletionStore(tmp_path, "0" * 64)
    progress = SamplingProgress("base", num_servers=1)
    progress.ready()
    source = Source((FakeServer(TASK),), store, max_in_flight=4, watch=progress.watch)
    asyncio.run(source.groups(requests(6), TASK))
    assert (source.num_asked, source.num_answered) == (6, 6)
    asyncio.run(source.groups(requests(8), TASK))
    progress.close()
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "base: a server starts"
    words = f"base: 14/14 requests, {source.num_generated} tokens generated, "
    assert lines[-1].startswith(words + f"{source.num_reused} reused, ")
    assert source.num_reused > 0


def test_a_failed_measurement_shows_how_far_it_came(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = CompletionStore(tmp_path, "0" * 64)
    asyncio.run(Source((FakeServer(TASK),), store, max_in_flight=4).groups(requests(3), TASK))
    progress = SamplingProgress("base", num_servers=2)
    source = Source((NoServer(),), store, max_in_flight=1, watch=progress.watch)
    with pytest.raises(NotCachedError):
        asyncio.run(source.groups(requests(5), TASK))
    progress.close()
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "base: 2 servers start"
    assert " requests, 0 tokens generated, " in lines[-1]
