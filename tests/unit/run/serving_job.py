"""A server job that answers as vLLM does with what a fake server says; ``python -m`` this, RUN_DIR.

It reads the run's key when it starts. While a file ``ill`` holds its process id, or ``all``, it
answers with what is no completion; behind the word ``hangs`` it does not answer at all.
"""

import asyncio
import json
import os
import sys
from pathlib import Path

from aiohttp import web
from aiohttp.typedefs import Handler

from e3mega.plan.paths import RunPaths
from e3mega.plan.planfile import read_plan
from e3mega.rollout.records import Completion, GroupRequest
from e3mega.rollout.whole_file import text_if_there, write_whole
from e3mega.tasks.countdown.task import CountdownTask
from e3mega.tasks.interface import Prompt
from tests.fakes import FakeServer


def choice(index: int, completion: Completion, version: int) -> dict[str, object]:
    """A sample as vLLM writes it."""
    tokens, logprobs = completion.token_ids, completion.logprobs
    pairs = zip(tokens, logprobs, strict=True)
    span = {"version": str(version), "start": 0, "end": len(tokens)}
    return {
        "index": index,
        "token_ids": tokens,
        "finish_reason": completion.finish_reason.value,
        "logprobs": {"content": [{"token_id": t, "logprob": p} for t, p in pairs]},
        "weight_versions": [span],
    }


class Answers:
    """The routes that a run uses."""

    def __init__(self, paths: RunPaths) -> None:
        plan = read_plan(paths.plan)
        self._paths = paths
        self._fake = FakeServer(CountdownTask(plan.stages[0].task, plan.seed))
        self._greeting = f"Bearer {paths.key.read_text().strip()}"

    @web.middleware
    async def guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Only who has the key is answered."""
        if request.headers.get("Authorization") != self._greeting:
            return web.Response(status=401)
        return await handler(request)

    async def health(self, _request: web.Request) -> web.Response:
        """It answers."""
        return web.Response()

    async def label(self, request: web.Request) -> web.Response:
        """It has these weights."""
        self._fake.served = int((await request.json())["new_version"])
        return web.json_response({})

    async def generate(self, request: web.Request) -> web.Response:
        """Scores of the tokens of a prompt, or completions of it."""
        body = await request.json()
        tokens, params = body["token_ids"], body["sampling_params"]
        if "prompt_logprobs" in params:
            scores = await self._fake.score(tuple(tokens))
            rows = [{str(t): {"logprob": p}} for t, p in zip(tokens[1:], scores, strict=True)]
            return web.json_response({"prompt_logprobs": [None, *rows]})
        *how, who = text_if_there(self._paths.run_dir / "ill").split() or [""]
        if who in ("all", str(os.getpid())):
            await asyncio.sleep(600 if how == ["hangs"] else 0)
            return web.json_response({"choices": [{"index": 0, "token_ids": None}] * params["n"]})
        version = self._fake.served
        group = GroupRequest(
            index=0,
            prompt=Prompt("", tuple(tokens), ""),
            num_samples=params["n"],
            max_tokens=params["max_tokens"],
            temperature=params["temperature"],
            top_p=params["top_p"],
            top_k=params["top_k"],
            seed=params["seed"],
            version=version,
        )
        found = await self._fake.generate(group)
        choices = [choice(k, completion, version) for k, completion in enumerate(found)]
        return web.json_response({"choices": choices})


async def serve(paths: RunPaths) -> None:
    """Answer until killed."""
    answers = Answers(paths)
    application = web.Application(middlewares=[answers.guard])
    application.add_routes(
        [
            web.get("/health", answers.health),
            web.post("/update_weight_version", answers.label),
            web.post("/inference/v1/generate", answers.generate),
        ]
    )
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    address = {"host": "127.0.0.1", "port": runner.addresses[0][1], "pid": os.getpid()}
    write_whole(paths.address(0), json.dumps(address).encode())
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(RunPaths(Path(sys.argv[1]))))
