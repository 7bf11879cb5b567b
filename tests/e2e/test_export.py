"""The export of a run, served by vLLM as it starts by itself, has transformers' numbers."""

import asyncio
from pathlib import Path

import numpy as np
import pytest

from e3mega.generation.model_folder import read_model_folder
from e3mega.plan.planfile import read_plan
from e3mega.rollout.records import Completion, GroupRequest
from e3mega.run.measuring.tier import VERSION, TierOrder, open_tier
from e3mega.spec.schema.generation import GenerationOptions, ServerStart
from e3mega.spec.schema.layout import GenerationLayout
from e3mega.tasks.catalog import build_task
from e3mega.tasks.interface import Prompt
from tests.e2e.hf_reference import hf_logits, log_softmax
from tests.e2e.live_run import Finished

pytestmark = pytest.mark.e2e


async def serve(order: TierOrder, prompt: Prompt) -> tuple[Completion, ...]:
    """Some completions of a server that starts from a folder."""
    async with open_tier(order) as (client,):
        return await client.generate(
            GroupRequest(
                index=0,
                prompt=prompt,
                num_samples=4,
                max_tokens=40,
                temperature=1.0,
                top_p=1.0,
                top_k=0,
                seed=5,
                version=VERSION,
            )
        )


def test_a_stock_server_serves_the_export(finished: Finished, tmp_path: Path) -> None:
    paths = finished.run.paths
    plan = read_plan(paths.plan)
    prompt = build_task(plan.stages[0].task, plan.seed, paths.model_dir).training_prompt(3)
    order = TierOrder(
        model=read_model_folder(paths.export),
        folder=tmp_path,
        max_model_len=128,
        layout=GenerationLayout(kv_cache_bytes=1 << 26),
        generation=GenerationOptions(server_start=ServerStart.STOCK, max_num_seqs=16),
    )
    completions = asyncio.run(serve(order, prompt))
    logits = hf_logits(paths.export, [prompt.token_ids + c.token_ids for c in completions])
    for completion, logits_TV in zip(completions, logits, strict=True):
        table_TV = log_softmax(logits_TV[len(prompt.token_ids) - 1 : -1])
        wanted = table_TV[np.arange(len(completion.token_ids)), completion.token_ids]
        np.testing.assert_allclose(completion.logprobs, wanted, atol=1e-4, rtol=0)
