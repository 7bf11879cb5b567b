"""Times the generation tier beside vLLM called in its own process, on the same prompts and seeds.

``python tools/bench_tier.py MODEL [--groups N] [--samples N] [--tokens N] ...``: the tier is a
server with the run's key, asked over HTTP as the loop asks it; the floor is vLLM's ``LLM`` with the
same settings. Both must give the same tokens. They take turns, so that a busy moment of the machine
falls on both; the table shows the median of the turns with their range.
"""

import argparse
import asyncio
import multiprocessing
import os
import statistics
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from e3mega.generation.model_folder import ModelFolder, read_model_folder
from e3mega.plan.jobs import server_environment
from e3mega.rollout.records import GroupRequest
from e3mega.run.tier import VERSION, TierOrder, open_tier
from e3mega.spec.schema.generation import GenerationOptions
from e3mega.spec.schema.layout import GenerationLayout
from e3mega.tasks.interface import Prompt

KV_CACHE_BYTES = 1 << 28
Tokens = list[tuple[int, ...]]


def main(arguments: list[str] | None = None) -> None:
    """Run both in turns and print the table."""
    options = _parser().parse_args(arguments)
    model = read_model_folder(options.model)
    seconds = asyncio.run(_turns(options, model))
    print(f"{options.groups} groups of {options.samples}, at most {options.tokens} tokens each")
    print(f"{'':24}{'tokens/s':>10}{'seconds, median':>18}{'range':>16}")
    num_tokens = seconds.pop("tokens")[0]
    for name, values in seconds.items():
        median = statistics.median(values)
        span = f"{min(values):.2f}-{max(values):.2f}"
        print(f"{name:24}{num_tokens / median:10.0f}{median:18.2f}{span:>16}")
    ratios = [a / b for a, b in zip(seconds["vLLM, in process"], seconds["tier"], strict=True)]
    print(f"tier / vLLM: {statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, help="a Hugging Face folder, or a run that finished")
    parser.add_argument("--groups", type=int, default=32, help="prompts of a round")
    parser.add_argument("--samples", type=int, default=8, help="completions of a prompt")
    parser.add_argument("--tokens", type=int, default=64, help="longest completion")
    parser.add_argument("--prompt-tokens", type=int, default=8, help="length of a prompt")
    parser.add_argument("--repeats", type=int, default=5, help="turns of each")
    parser.add_argument("--threads", type=int, default=1, help="threads of the server's worker")
    return parser


def _prompts(options: argparse.Namespace) -> list[tuple[int, ...]]:
    """Random token ids, below 16 so that any vocabulary has them."""
    rng = np.random.default_rng(0)
    sizes = (options.groups, options.prompt_tokens)
    return [tuple(int(x) for x in row) for row in rng.integers(4, 16, sizes)]


def _seed(group: int, options: argparse.Namespace) -> int:
    return 1000 + group * options.samples


async def _turns(options: argparse.Namespace, model: ModelFolder) -> dict[str, list[float]]:
    """Seconds by contender, and the tokens of one turn; a first turn of each is not counted."""
    layout = GenerationLayout(kv_cache_bytes=KV_CACHE_BYTES, threads_per_replica=options.threads)
    generation = GenerationOptions(max_num_seqs=options.groups * options.samples)
    length = options.prompt_tokens + options.tokens
    here, there = multiprocessing.Pipe()
    bare = multiprocessing.get_context("spawn").Process(target=_bare, args=(options, model, there))
    requests = [_request(group, prompt, options) for group, prompt in enumerate(_prompts(options))]
    found: dict[str, list[float]] = {"vLLM, in process": [], "tier": [], "tokens": []}
    with tempfile.TemporaryDirectory() as folder:
        order = TierOrder(model, Path(folder), length, layout, generation)
        async with open_tier(order) as (client,):
            # Started after the server: an idle engine does not disturb a start.
            bare.start()
            for turn in range(options.repeats + 1):
                start = time.monotonic()
                groups = await asyncio.gather(*map(client.generate, requests))
                tier_s = time.monotonic() - start
                here.send("go")
                bare_s, wanted = await asyncio.to_thread(here.recv)
                tokens = [completion.token_ids for group in groups for completion in group]
                assert tokens == wanted, "the tier gives other tokens than vLLM"
                if turn:
                    found["tier"].append(tier_s)
                    found["vLLM, in process"].append(bare_s)
                    found["tokens"].append(sum(map(len, tokens)))
            here.send("end")
            await asyncio.to_thread(bare.join)
    return found


def _request(group: int, prompt: tuple[int, ...], options: argparse.Namespace) -> GroupRequest:
    return GroupRequest(
        index=group,
        prompt=Prompt("", prompt, ""),
        num_samples=options.samples,
        max_tokens=options.tokens,
        temperature=1.0,
        top_p=1.0,
        top_k=0,
        seed=_seed(group, options),
        version=VERSION,
    )


def _bare(options: argparse.Namespace, model: ModelFolder, pipe: Connection) -> None:
    """vLLM with the server's settings; answers each word but the last with seconds and tokens."""
    os.environ.update(server_environment(options.threads))
    from vllm import LLM, SamplingParams

    length = options.prompt_tokens + options.tokens
    llm = LLM(
        str(model.path),
        dtype=model.dtype,  # pyright: ignore[reportArgumentType]
        max_model_len=length,
        max_num_seqs=options.groups * options.samples,
        max_num_batched_tokens=8192,
        kv_cache_memory_bytes=KV_CACHE_BYTES,
        enable_chunked_prefill=False,
        enforce_eager=True,
        skip_tokenizer_init=True,
        logprobs_mode="processed_logprobs",
        generation_config="vllm",
        disable_log_stats=True,
    )
    prompts = [{"prompt_token_ids": list(prompt)} for prompt in _prompts(options)]
    params = [
        SamplingParams(
            n=options.samples,
            max_tokens=options.tokens,
            seed=_seed(group, options),
            logprobs=0,
            stop_token_ids=list(model.end_token_ids),
            detokenize=False,
        )
        for group in range(options.groups)
    ]
    while pipe.recv() == "go":
        start = time.monotonic()
        outputs = llm.generate(prompts, params, use_tqdm=False)
        seconds = time.monotonic() - start
        pipe.send((seconds, [tuple(one.token_ids) for each in outputs for one in each.outputs]))


if __name__ == "__main__":
    main()
