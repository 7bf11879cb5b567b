"""Measures a model's asymmetry on a task: samples, checks, chained attempts, the p^k fit."""

import asyncio
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from e3mega.errors import E3Error
from e3mega.evaluate.asymmetry import Asymmetry, TriedTrace, attempt_counts, measure_asymmetry
from e3mega.evaluate.attempt_context import ContextPoint, attempt_contexts
from e3mega.evaluate.benchmark import held_out_prompts
from e3mega.evaluate.chained import AnswerSampling, ChainedRow, Recorded, chained_row
from e3mega.evaluate.grading import problem_seed
from e3mega.evaluate.pk_model import PkFit, fit_pk
from e3mega.evaluate.sampling import NoServer, NotCachedError, Source
from e3mega.evaluate.store import CompletionStore, model_digest
from e3mega.generation.model_folder import ModelFolder
from e3mega.plan.paths import GradePaths
from e3mega.rollout.records import FinishReason, Group, GroupRequest
from e3mega.rollout.whole_file import write_whole
from e3mega.run.measuring.model_source import model_at
from e3mega.run.measuring.sampling_progress import SamplingProgress
from e3mega.run.measuring.tier import VERSION, TierOrder, open_tier
from e3mega.spec.schema.generation import GenerationOptions
from e3mega.spec.schema.layout import GenerationLayout
from e3mega.tasks.catalog import build_task
from e3mega.tasks.interface import Task
from e3mega.tasks.options import TaskOptions
from e3mega.tasks.sizes import max_prompt_tokens

PK_POINTS = (1, 2, 4, 8, 16)
MAX_SCORED_ATTEMPTS = 10
"""Of one completion; as many as Fig. 14 of the paper has."""


@dataclass(frozen=True, slots=True)
class AsymmetryOrder:
    """What is measured."""

    model: Path
    task: TaskOptions
    num_problems: int
    """Most held-out problems."""
    num_samples: int
    max_tokens: int
    temperature: float
    top_p: float
    attempts: tuple[int, ...]
    """Numbers of chained attempts; none to leave the heat map out."""
    num_answers: int
    answer_tokens: int
    num_scored: int
    """Problems of which a completion's attempts are scored; 0 for none."""
    seed: int
    layout: GenerationLayout
    cache: Path
    out: Path


@dataclass(frozen=True, slots=True)
class Measured:
    """All that the command measures; the JSON file holds the same."""

    asymmetry: Asymmetry
    chained: tuple[ChainedRow, ...]
    contexts: tuple[ContextPoint, ...]
    """What an attempt tells the next one; empty where completions have one attempt at most."""
    pk: PkFit | None
    """None when no completion holds an attempt."""
    accuracy: float
    num_completions: int
    truncated_frac: float
    num_generated_tokens: int
    num_reused_tokens: int
    """Read from the cache instead."""


def measure(order: AsymmetryOrder) -> Measured:
    """Measure and write ``asymmetry.json`` into the folder; E3Error with what is wrong."""
    measured = asyncio.run(_measure(order))
    content = {
        "model": str(order.model),
        "task": order.task.model_dump(mode="json"),
        "num_problems": order.num_problems,
        "num_samples": order.num_samples,
        "max_tokens": order.max_tokens,
        "temperature": order.temperature,
        "top_p": order.top_p,
        "seed": order.seed,
        **asdict(measured),
    }
    text = json.dumps(_without_nan(content), indent=2) + "\n"
    write_whole(GradePaths(order.out).asymmetry, text.encode())
    return measured


async def _measure(order: AsymmetryOrder) -> Measured:
    model = model_at(order.model, order.cache)
    task = build_task(order.task, order.seed, model.path)
    store = CompletionStore(order.cache, model_digest(model.path))
    try:
        return await _answered(order, model, task, store)
    finally:
        await task.close()


async def _answered(
    order: AsymmetryOrder, model: ModelFolder, task: Task, store: CompletionStore
) -> Measured:
    """Read what was answered before; servers start only when something is missing."""
    try:
        return await measure_with(order, task, Source((NoServer(),), store, max_in_flight=1))
    except NotCachedError:
        generation = GenerationOptions(temperature=order.temperature)
        longest = _longest(order, model, task)
        tier = TierOrder(model, order.out, longest, order.layout, generation)
        progress = SamplingProgress(str(order.model), order.layout.num_replicas)
        try:
            async with open_tier(tier) as clients:
                progress.ready()
                in_flight = max(1, generation.max_num_seqs * len(clients) // order.num_samples)
                source = Source(clients, store, max_in_flight=in_flight, watch=progress.watch)
                return await measure_with(order, task, source)
        finally:
            progress.close()


def _longest(order: AsymmetryOrder, model: ModelFolder, task: Task) -> int:
    """Tokens of the longest request; E3Error when the model's context is shorter."""
    longest = max_prompt_tokens(order.task) + order.max_tokens + order.answer_tokens
    longest += len(task.answer_cue)
    if longest > model.max_context_tokens:
        raise E3Error(
            f"{model.path}: a prompt, --max-tokens {order.max_tokens} and an answer do not fit "
            f"into the model's context of {model.max_context_tokens} tokens; lower --max-tokens"
        )
    return longest


async def measure_with(order: AsymmetryOrder, task: Task, source: Source) -> Measured:
    """All measurements with answers from the source; raises what it raises."""
    requests = [
        GroupRequest(
            index=index,
            prompt=prompt,
            num_samples=order.num_samples,
            max_tokens=order.max_tokens,
            temperature=order.temperature,
            top_p=order.top_p,
            top_k=0,
            seed=problem_seed(prompt.problem, order.seed),
            version=VERSION,
        )
        for index, prompt in enumerate(held_out_prompts(task, order.num_problems))
    ]
    groups = await source.groups(requests, task)
    chained = await _chained(order, groups, task, source)
    contexts = await attempt_contexts(
        groups, task, source, num_problems=order.num_scored, max_attempts=MAX_SCORED_ATTEMPTS
    )
    return conclude(groups, chained, contexts, task, source, seed=order.seed)


async def _chained(
    order: AsymmetryOrder, groups: Sequence[Group], task: Task, source: Source
) -> tuple[ChainedRow, ...]:
    if not task.answer_cue:
        return ()
    recorded = [
        Recorded(
            group.request.prompt,
            tuple(rollout.completion.token_ids for rollout in group.rollouts),
        )
        for group in groups
    ]
    sampling = AnswerSampling(
        order.num_answers, order.answer_tokens, order.temperature, order.top_p, order.seed, VERSION
    )
    num_samples = order.num_samples * order.num_answers
    ks = [k for k in PK_POINTS if k <= num_samples]
    return tuple(
        [
            await chained_row(recorded, count, ks, task=task, source=source, sampling=sampling)
            for count in order.attempts
        ]
    )


def conclude(
    groups: Sequence[Group],
    chained: tuple[ChainedRow, ...],
    contexts: tuple[ContextPoint, ...],
    task: Task,
    source: Source,
    *,
    seed: int,
) -> Measured:
    """What the groups tell."""
    traces = [
        TriedTrace(
            problem=group.request.index,
            attempts=task.attempts(group.request.prompt, rollout.completion.token_ids),
            has_ended=rollout.completion.finish_reason is FinishReason.STOP,
            is_right=rollout.marks.reward > 0,
        )
        for group in groups
        for rollout in group.rollouts
    ]
    counts = attempt_counts(traces)
    return Measured(
        asymmetry=measure_asymmetry(traces, seed=seed),
        chained=chained,
        contexts=contexts,
        pk=fit_pk(counts, PK_POINTS, seed=seed) if counts.tried_PK.size else None,
        accuracy=sum(trace.is_right for trace in traces) / len(traces),
        num_completions=len(traces),
        truncated_frac=sum(not trace.has_ended for trace in traces) / len(traces),
        num_generated_tokens=source.num_generated,
        num_reused_tokens=source.num_reused,
    )


def _without_nan(value: Any) -> Any:
    """JSON has no NaN: a share without cases is null."""
    if isinstance(value, dict):
        return {key: _without_nan(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(each) for each in value]
    return None if isinstance(value, float) and math.isnan(value) else value
