"""A server that cannot start the fast way starts as vLLM does."""

import asyncio
from pathlib import Path

import psutil
import pytest

from e3mega.generation.client import GenerationClient
from e3mega.generation.server import vllm_arguments
from tests.e2e.tier import end_tree, make_run, start_server, wait_until_ready

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


def test_a_fast_start_that_fails_becomes_a_stock_one(tmp_path: Path) -> None:
    plan, paths = make_run(tmp_path / "run")
    arguments = vllm_arguments(plan, paths, "127.0.0.1")
    job = start_server(plan, paths, arguments, start="fast", plugin="refuse_fork")

    async def scores() -> list[float]:
        key = paths.key.read_text().strip()
        client = GenerationClient(
            address_file=paths.address(0), key=key, end_token_ids=(1,), deadline_s=60
        )
        try:
            await client.wait_until_ready(10)
            return await client.score((3, 4, 5, 6))
        finally:
            await client.close()

    try:
        wait_until_ready(job)
        assert len(asyncio.run(scores())) == 3
        children = psutil.Process(job.process.pid).children(recursive=True)
    finally:
        end_tree(job)
    text = job.log.read_text()
    assert "this engine core was forked" in text
    assert "fast start failed" in text
    assert psutil.wait_procs(children, timeout=10)[1] == []
