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
from e3mega.evaluate.chained import AnswerSampling, ChainedRow, Recorded, chained_row
from e3mega.evaluate.grading import Generator, problem_seed
from e3mega.evaluate.pk_model import PkFit, fit_pk
from e3mega.generation.model_folder import read_model_folder
from e3mega.plan.paths import GradePaths
from e3mega.rollout.records import FinishReason, Group, GroupRequest, Rollout
from e3mega.rollout.whole_file import write_whole
from e3mega.run.tier import VERSION, TierOrder, open_tier
from e3mega.spec.schema.generation import GenerationOptions
from e3mega.spec.schema.layout import GenerationLayout
from e3mega.tasks.catalog import build_task
from e3mega.tasks.interface import Prompt, Task
from e3mega.tasks.options import TaskOptions
from e3mega.tasks.sizes import max_prompt_tokens

PK_POINTS = (1, 2, 4, 8, 16)


@dataclass(frozen=True, slots=True)
class AsymmetryOrder:
    """What is measured."""

    model: Path
    task: TaskOptions
    num_problems: int
    num_samples: int
    max_tokens: int
    temperature: float
    top_p: float
    attempts: tuple[int, ...]
    """Numbers of chained attempts; none to leave the heat map out."""
    num_answers: int
    answer_tokens: int
    seed: int
    layout: GenerationLayout
    out: Path


@dataclass(frozen=True, slots=True)
class Measured:
    """All that the command measures; the JSON file holds the same."""

    asymmetry: Asymmetry
    chained: tuple[ChainedRow, ...]
    pk: PkFit | None
    """None when no completion holds an attempt."""
    accuracy: float
    num_completions: int
    truncated_frac: float


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
    model = read_model_folder(order.model)
    task = build_task(order.task, order.seed, model.path)
    prompts = task.held_out_prompts(order.num_problems)
    longest = max_prompt_tokens(order.task) + order.max_tokens + order.answer_tokens
    longest += len(task.answer_cue)
    if longest > model.max_context_tokens:
        raise E3Error(
            f"{model.path}: a prompt, --max-tokens {order.max_tokens} and an answer do not fit "
            f"into the model's context of {model.max_context_tokens} tokens; lower --max-tokens"
        )
    generation = GenerationOptions(temperature=order.temperature)
    tier = TierOrder(model, order.out, longest, order.layout, generation)
    try:
        async with open_tier(tier) as clients:
            groups = await sample(order, prompts, task, clients)
            chained = await _chained(order, groups, task, clients)
    finally:
        await task.close()
    return conclude(groups, chained, task, seed=order.seed)


async def sample(
    order: AsymmetryOrder, prompts: Sequence[Prompt], task: Task, generators: Sequence[Generator]
) -> list[Group]:
    """Judged completions of every prompt."""

    async def one(index: int, prompt: Prompt) -> Group:
        request = GroupRequest(
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
        completions = await generators[index % len(generators)].generate(request)
        marks = [await task.judge(prompt, each.token_ids) for each in completions]
        return Group(request, tuple(map(Rollout, completions, marks)))

    return list(await asyncio.gather(*(one(i, prompt) for i, prompt in enumerate(prompts))))


async def _chained(
    order: AsymmetryOrder, groups: Sequence[Group], task: Task, generators: Sequence[Generator]
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
            await chained_row(
                recorded, count, ks, task=task, generators=generators, sampling=sampling
            )
            for count in order.attempts
        ]
    )


def conclude(
    groups: Sequence[Group], chained: tuple[ChainedRow, ...], task: Task, *, seed: int
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
        pk=fit_pk(counts, PK_POINTS, seed=seed) if counts.tried_PK.size else None,
        accuracy=sum(trace.is_right for trace in traces) / len(traces),
        num_completions=len(traces),
        truncated_frac=sum(not trace.has_ended for trace in traces) / len(traces),
    )


def _without_nan(value: Any) -> Any:
    """JSON has no NaN: a share without cases is null."""
    if isinstance(value, dict):
        return {key: _without_nan(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(each) for each in value]
    return None if isinstance(value, float) and math.isnan(value) else value
