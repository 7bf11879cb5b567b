"""A server gives transformers' log-probabilities, a group's seeds, versions, and no old cache."""

import asyncio
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from e3mega.errors import TierError
from e3mega.loop.jobs import Jobs
from e3mega.loop.rounds import supervised_round, train_round
from e3mega.loop.state import LoopState
from e3mega.loop.sync import TierSync
from e3mega.rollout.records import CommandKind, Completion, GroupRequest
from e3mega.tasks.interface import Prompt
from tests.e2e.hf_reference import hf_logits, log_softmax
from tests.e2e.tier import Tier

pytestmark = pytest.mark.e2e

TEMPERATURES = (1.0, 0.7)
SEED = 77
NUM_SAMPLES = 4
LONG_PROMPT_TOKENS = 200
"""More than a block of the prefix cache."""


@dataclass
class Served:
    """What the server gave under one version, and the same weights as an HF folder."""

    folder: Path
    groups: dict[float, tuple[Completion, ...]]
    """By temperature."""
    singles: tuple[Completion, ...]
    """One request a sample, seeds counted up, temperature 1."""
    long: Completion
    """After a prompt longer than a block of the prefix cache."""
    scores: list[float]
    """Of the long prompt."""
    refusal: str
    """What a request for another version is answered."""


@dataclass
class Recorded:
    """The same requests under version 0 and, one step later, version 1."""

    prompt: Prompt
    long_prompt: tuple[int, ...]
    served: list[Served]


def request(prompt: Prompt, *, version: int) -> GroupRequest:
    return GroupRequest(
        index=0,
        prompt=prompt,
        num_samples=NUM_SAMPLES,
        max_tokens=24,
        temperature=1.0,
        top_p=1.0,
        top_k=0,
        seed=SEED,
        version=version,
    )


async def record(jobs: Jobs, prompt: Prompt, long_prompt: tuple[int, ...]) -> list[Served]:
    """Serve version 0, take a step, serve version 1; then have the learner stop."""
    stage, sync = jobs.plan.stages[0], TierSync(jobs)
    state = LoopState(budget_tokens=stage.budgets[0].tokens)
    server = jobs.tier.replicas[0].server
    served: list[Served] = []
    for version in (0, 1):
        await sync.ensure(version, stage)
        ask = request(prompt, version=version)
        long = replace(ask, prompt=Prompt("", long_prompt, ""), num_samples=1)
        groups = {
            temperature: await server.generate(replace(ask, temperature=temperature))
            for temperature in TEMPERATURES
        }
        singles = [
            (await server.generate(replace(ask, num_samples=1, seed=SEED + k)))[0]
            for k in range(NUM_SAMPLES)
        ]
        (completion,) = await server.generate(long)
        with pytest.raises(TierError) as refused:
            await server.generate(replace(ask, version=version + 1))
        await jobs.command(CommandKind.EXPORT, version=version)
        folder = jobs.paths.export.rename(jobs.paths.run_dir / f"version_{version}")
        scores = await server.score(long_prompt)
        refusal = str(refused.value)
        served.append(Served(folder, groups, tuple(singles), completion, scores, refusal))
        if version == 0:
            data = supervised_round(
                jobs, stage, stage_round=0, steps=1, budget_tokens=state.budget_tokens
            )
            state = await train_round(jobs, state, stage, data, lag=0)
    await jobs.command(CommandKind.STOP, version=1)
    await jobs.tier.close()
    return served


@pytest.fixture(scope="module")
def recorded(tier: Tier, tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    rng = np.random.default_rng(4)
    with tier.run(tmp_path_factory.mktemp("generation")) as run:
        jobs = run.jobs()
        prompt = jobs.tasks[0].training_prompt(0)
        size = (LONG_PROMPT_TOKENS,)
        long_prompt = tuple(int(x) for x in rng.integers(3, run.plan.model.vocab_size, size))
        served = asyncio.run(record(jobs, prompt, long_prompt))
        assert run.end() == ""
    return Recorded(prompt, long_prompt, served)


def test_log_probs_are_those_of_transformers(recorded: Recorded) -> None:
    for served in recorded.served:
        cases = [
            (recorded.prompt.token_ids, completion, temperature)
            for temperature, group in served.groups.items()
            for completion in group
        ]
        # The second version's would be wrong if it read the first one's prefix cache.
        cases.append((recorded.long_prompt, served.long, 1.0))
        sequences = [prompt + completion.token_ids for prompt, completion, _ in cases]
        logits = hf_logits(served.folder, sequences)
        for (prompt, completion, temperature), logits_TV in zip(cases, logits, strict=True):
            table_TV = log_softmax(logits_TV[len(prompt) - 1 : -1], temperature)
            rows = np.arange(len(completion.token_ids))
            wanted = table_TV[rows, completion.token_ids]
            assert wanted.min() < -2, "the model is not sure of everything"
            np.testing.assert_allclose(completion.logprobs, wanted, atol=2e-5, rtol=0)
        scored_TV = log_softmax(logits[-1][: LONG_PROMPT_TOKENS - 1])
        wanted = scored_TV[np.arange(LONG_PROMPT_TOKENS - 1), recorded.long_prompt[1:]]
        np.testing.assert_allclose(served.scores, wanted, atol=5e-5, rtol=0)


def test_a_step_changes_what_is_served(recorded: Recorded) -> None:
    first, second = recorded.served
    assert np.abs(np.subtract(first.scores, second.scores)).max() > 0.01
    assert first.long.logprobs[0] != second.long.logprobs[0]


def test_a_group_is_its_samples_asked_for_one_by_one(recorded: Recorded) -> None:
    for served in recorded.served:
        group = served.groups[1.0]
        assert [c.token_ids for c in group] == [c.token_ids for c in served.singles]
        assert [c.logprobs for c in group] == [c.logprobs for c in served.singles]
        assert len({c.token_ids for c in group}) == NUM_SAMPLES, "seeds differ"


def test_every_token_tells_its_version(recorded: Recorded) -> None:
    for version, served in enumerate(recorded.served):
        for completion in (*served.groups[1.0], *served.groups[0.7], served.long):
            (span,) = completion.spans
            assert (span.version, span.start) == (version, 0)
            assert span.end == len(completion.token_ids)
        assert f"sampled under version {version}" in served.refusal
