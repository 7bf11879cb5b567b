"""pass@k against the number of chained attempts: Fig. 3 and 12 of the e3 paper.

Each recorded completion is cut behind its attempt number ``a`` (behind its last one if it has
fewer), the task's cue makes the model answer at once, and a few short answers are sampled: with S
completions and R answers, S x R samples of each problem give the unbiased pass@k at ``a``.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from e3mega.evaluate.grading import problem_seed
from e3mega.evaluate.passk import PassPoint, pass_k_curve
from e3mega.evaluate.sampling import Source
from e3mega.rollout.records import GroupRequest
from e3mega.tasks.interface import Prompt, Task

# Shape letters: P problems, S samples of a problem.


@dataclass(frozen=True, slots=True)
class AnswerSampling:
    """How answers are asked for. Example: ``AnswerSampling(8, 32, 0.6, 0.95, 1, 0)``."""

    num_answers: int
    """Answers behind each cut completion; 8 in the paper."""
    max_tokens: int
    """Longest answer; 32 in the paper."""
    temperature: float
    top_p: float
    seed: int
    version: int
    """The version that the servers give to their weights."""


@dataclass(frozen=True, slots=True)
class ChainedRow:
    """pass@k after a number of attempts. Example: ``ChainedRow(4, (PassPoint(1, .02, .004),))``."""

    num_attempts: int
    points: tuple[PassPoint, ...]


@dataclass(frozen=True, slots=True)
class Recorded:
    """One problem with its completions. Example: ``Recorded(prompt, ((5, 9, 1), (5, 2)))``."""

    prompt: Prompt
    completions: tuple[tuple[int, ...], ...]


def cut_behind(task: Task, prompt: Prompt, token_ids: tuple[int, ...], num_attempts: int) -> int:
    """Tokens of a completion up to its attempt with this number, or its last; 0 without any."""
    attempts = task.attempts(prompt, token_ids)[:num_attempts]
    return attempts[-1].end if attempts else 0


async def chained_row(
    recorded: Sequence[Recorded],
    num_attempts: int,
    ks: Sequence[int],
    *,
    task: Task,
    source: Source,
    sampling: AnswerSampling,
) -> ChainedRow:
    """One row of the heat map; every problem has equally many completions."""
    starts = [
        (each.prompt, ids[: cut_behind(task, each.prompt, ids, num_attempts)] + task.answer_cue)
        for each in recorded
        for ids in each.completions
    ]
    requests = [
        GroupRequest(
            index=index,
            prompt=Prompt(prompt.problem, prompt.token_ids + start, prompt.slice_name),
            num_samples=sampling.num_answers,
            max_tokens=sampling.max_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=0,
            seed=problem_seed(f"{prompt.problem}/{num_attempts}/{index}", sampling.seed),
            version=sampling.version,
        )
        for index, (prompt, start) in enumerate(starts)
    ]
    answers = await source.completions(requests)
    judged = [
        task.judge(prompt, start + completion.token_ids)
        for (prompt, start), completions in zip(starts, answers, strict=True)
        for completion in completions
    ]
    marks = await asyncio.gather(*judged)
    is_right_PS = np.array([each.reward > 0 for each in marks]).reshape(len(recorded), -1)
    return ChainedRow(num_attempts, pass_k_curve(is_right_PS, ks, seed=sampling.seed))
