"""Servers that start from a model's folder, against transformers' numbers for the same folder."""

import asyncio
import math
import os
from pathlib import Path

import psutil
import pytest
import torch
from transformers import Qwen3ForCausalLM

from e3mega.errors import TierError
from e3mega.generation.model_folder import read_model_folder
from e3mega.plan.paths import RunPaths
from e3mega.rollout.records import FinishReason, GroupRequest
from e3mega.run.measuring.tier import VERSION, TierOrder, open_tier
from e3mega.spec.schema.generation import GenerationOptions
from e3mega.spec.schema.layout import GenerationLayout
from e3mega.tasks.interface import Prompt
from tests.e2e.random_qwen3 import write_model

pytestmark = pytest.mark.e2e
END = 1
PROMPT = Prompt("", (5, 9, 17, 3, 40), "all")


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    return write_model(folder, seed=0, end=END, initializer_range=0.3)


def order(model_dir: Path, folder: Path) -> TierOrder:
    return TierOrder(
        model=read_model_folder(model_dir),
        folder=folder,
        max_model_len=128,
        layout=GenerationLayout(kv_cache_bytes=1 << 26),
        generation=GenerationOptions(max_num_seqs=16),
    )


def request(**changes: float) -> GroupRequest:
    values = {"num_samples": 4, "max_tokens": 12, "temperature": 0.7, "top_p": 1.0, "top_k": 0}
    return GroupRequest(index=0, prompt=PROMPT, seed=11, version=VERSION, **{**values, **changes})


def reference_logprobs(model_dir: Path, token_ids: tuple[int, ...]) -> torch.Tensor:
    """(tokens - 1, vocabulary) logits of transformers, before any softmax."""
    model = Qwen3ForCausalLM.from_pretrained(model_dir, dtype=torch.float32)
    with torch.no_grad():
        return model(torch.tensor([token_ids])).logits[0, :-1].double()


def _descendants() -> list[int]:
    return [child.pid for child in psutil.Process().children(recursive=True)]


async def check_samples(model_dir: Path, folder: Path) -> None:
    # Servers that other tests share are children of this process too.
    others = set(_descendants())
    async with open_tier(order(model_dir, folder)) as (client,):
        sampled = await client.generate(request())
        again = await client.generate(request())
        greedy = await client.generate(request(num_samples=1, top_k=1))
        scores = await client.score(PROMPT.token_ids)
        pids = set(_descendants()) - others
        assert sampled == again
    for completion in sampled:
        tokens = PROMPT.token_ids + completion.token_ids
        logits = reference_logprobs(model_dir, tokens)[len(PROMPT.token_ids) - 1 :] / 0.7
        wanted = logits.log_softmax(-1)[range(len(completion.token_ids)), completion.token_ids]
        assert torch.tensor(completion.logprobs).double().allclose(wanted, atol=2e-5)
        ends = completion.token_ids[-1] == END
        assert (completion.finish_reason is FinishReason.STOP) == ends
    tokens = PROMPT.token_ids + greedy[0].token_ids
    logits = reference_logprobs(model_dir, tokens)
    assert tuple(logits.argmax(-1)[len(PROMPT.token_ids) - 1 :].tolist()) == greedy[0].token_ids
    assert all(abs(logprob) < 1e-6 for logprob in greedy[0].logprobs)
    wanted = logits.log_softmax(-1)[range(4), PROMPT.token_ids[1:]]
    assert all(map(lambda a, b: math.isclose(a, b, abs_tol=2e-5), scores, wanted.tolist()))
    assert pids and not any(psutil.pid_exists(pid) for pid in pids)


def test_a_folders_weights_give_transformers_log_probabilities_and_no_process_stays(
    model_dir: Path, tmp_path: Path
) -> None:
    asyncio.run(check_samples(model_dir, tmp_path))
    key = RunPaths(tmp_path).key
    assert os.stat(key).st_mode & 0o777 == 0o600


def test_a_server_that_dies_ends_the_wait_with_the_reason_of_its_log(
    model_dir: Path, tmp_path: Path
) -> None:
    """The server dies at its start here, of an argument that vLLM does not know."""
    wrong = order(model_dir, tmp_path)
    wrong = TierOrder(
        wrong.model, wrong.folder, 128, wrong.layout, GenerationOptions(server_args={"no_such": 1})
    )

    async def enter() -> None:
        async with open_tier(wrong):
            await asyncio.Event().wait()

    with pytest.raises(TierError, match=r"server generation_0 exited with status 2.*no-such"):
        asyncio.run(enter())
