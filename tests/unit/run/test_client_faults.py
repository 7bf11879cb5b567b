"""Faults of servers, ports and keys, as the side that meets them tells them."""

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest
from aiohttp import web

from e3mega.errors import JobError, RefusedError, SyncError, TierError
from e3mega.generation.client import GenerationClient
from e3mega.plan.paths import RunPaths
from e3mega.rollout.records import GroupRequest
from e3mega.run.causes import log_cause
from e3mega.run.meeting import own_address
from e3mega.tasks.interface import Prompt
from e3mega.weights.canary import CanaryPair, compare

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def request() -> GroupRequest:
    return GroupRequest(0, Prompt("1 2 : 3", (1, 2), "easy"), 1, 8, 1.0, 1.0, 0, 5, 0)


async def ask(
    tmp_path: Path,
    generate: Handler,
    *,
    health: int = 200,
    work: Callable[[GenerationClient], Awaitable[object]] = lambda it: it.generate(request()),
) -> object:
    """Ask a server that answers so, as the loop would."""

    async def healthy(_request: web.Request) -> web.Response:
        return web.Response(status=health)

    application = web.Application()
    application.add_routes(
        [web.get("/health", healthy), web.post("/inference/v1/generate", generate)]
    )
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    address = RunPaths(tmp_path).address(0)
    address.parent.mkdir()
    address.write_text(json.dumps({"host": "127.0.0.1", "port": port, "pid": 4711}))
    client = GenerationClient(address_file=address, key="k", end_token_ids=(3,), deadline_s=0.5)
    try:
        await client.wait_until_ready(2.0)
        return await work(client)
    finally:
        await client.close()
        await runner.cleanup()


@pytest.mark.parametrize(
    "answer",
    [
        "not json",
        "{}",
        "[]",
        '{"choices": [{"index": 0}]}',
        '{"choices": []}',
        '{"choices": [{"index": 0, "token_ids": [4], "finish_reason": "stop", "logprobs": '
        '{"content": []}, "weight_versions": []}]}',
    ],
)
def test_a_server_that_answers_garbage_is_given_up(tmp_path: Path, answer: str) -> None:
    async def garbage(_request: web.Request) -> web.Response:
        return web.Response(text=answer)

    with pytest.raises(TierError, match="generation_0"):
        asyncio.run(ask(tmp_path, garbage))


def test_a_server_that_hangs_is_given_up_at_the_deadline(tmp_path: Path) -> None:
    async def hang(_request: web.Request) -> web.Response:
        await asyncio.sleep(2)
        return web.Response()

    with pytest.raises(TierError, match=r"no answer within 0\.5 s"):
        asyncio.run(ask(tmp_path, hang))


def test_a_request_that_is_wrong_is_not_sent_to_another_server(tmp_path: Path) -> None:
    async def refuse(_request: web.Request) -> web.Response:
        return web.Response(status=400, text="the prompt is too long")

    with pytest.raises(RefusedError, match="the prompt is too long"):
        asyncio.run(ask(tmp_path, refuse))


def test_a_server_whose_address_is_withdrawn_is_gone(tmp_path: Path) -> None:
    async def withdraw(client: GenerationClient) -> str:
        gone = asyncio.create_task(client.wait_until_gone())
        await asyncio.sleep(0.3)
        assert not gone.done()
        RunPaths(tmp_path).address(0).unlink()
        return await gone

    async def answers(_request: web.Request) -> web.Response:
        return web.json_response({})

    words = asyncio.run(ask(tmp_path, answers, work=withdraw))
    assert words == "generation_0: its process ended, says its supervisor"


def test_a_wrong_key_is_told_at_once(tmp_path: Path) -> None:
    async def never(_request: web.Request) -> web.Response:
        raise AssertionError("nothing is asked with a wrong key")

    with pytest.raises(RefusedError, match="refuses the run's key"):
        asyncio.run(ask(tmp_path, never, health=401))


def test_weights_that_are_nan_are_told_by_the_token(tmp_path: Path) -> None:
    learner = np.zeros(4)
    server = np.array([0.0, 0.0, np.nan, 0.0])
    with pytest.raises(SyncError, match="generation_0: version 3: canary token 2"):
        compare(CanaryPair(learner, server), None, version=3, server="generation_0")


def test_an_interface_that_is_not_there_is_told_with_those_that_are() -> None:
    with pytest.raises(JobError, match=r"has no address on nowhere0; set cluster\.interface to"):
        own_address("nowhere0")


def test_a_port_that_is_taken_is_told(tmp_path: Path) -> None:
    """What torch's store says when it cannot listen is the cause that a person reads."""
    from torch.distributed import TCPStore

    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        with pytest.raises(RuntimeError) as caught:
            TCPStore("127.0.0.1", port, 1, is_master=True)
    log = tmp_path / "learner.log"
    kind = type(caught.value)
    log.write_text(f"=== attempt 0\n{kind.__module__}.{kind.__name__}: {caught.value}\n")
    cause = log_cause(log, 0)
    assert str(port) in cause and "EADDRINUSE" in cause
