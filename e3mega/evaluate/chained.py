"""pass@k against the number of chained attempts: Fig. 3 and 12 of the e3 paper.

Each recorded completion is cut behind its attempt number ``a`` (behind its last one if it has
fewer), the task's cue makes the model answer at once, and a few short answers are sampled: with S
completions and R answers, S x R samples of each problem give the unbiased pass@k at ``a``.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from e3mega.evaluate.grading import Generator, problem_seed
from e3mega.evaluate.passk import PassPoint, pass_k_curve
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
    generators: Sequence[Generator],
    sampling: AnswerSampling,
) -> ChainedRow:
    """One row of the heat map; every problem has equally many completions."""
    rows = [
        await _problem(number, each, num_attempts, task, generators, sampling)
        for number, each in enumerate(recorded)
    ]
    is_right_PS = np.array(rows, dtype=bool)
    return ChainedRow(num_attempts, pass_k_curve(is_right_PS, ks, seed=sampling.seed))


async def _problem(
    number: int,
    recorded: Recorded,
    num_attempts: int,
    task: Task,
    generators: Sequence[Generator],
    sampling: AnswerSampling,
) -> NDArray[np.bool_]:
    """Whether each of the problem's answers is right, (S,)."""
    generator = generators[number % len(generators)]
    is_right: list[bool] = []
    for place, token_ids in enumerate(recorded.completions):
        prompt = recorded.prompt
        start = token_ids[: cut_behind(task, prompt, token_ids, num_attempts)] + task.answer_cue
        request = GroupRequest(
            index=place,
            prompt=Prompt(prompt.problem, prompt.token_ids + start, prompt.slice_name),
            num_samples=sampling.num_answers,
            max_tokens=sampling.max_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=0,
            seed=problem_seed(f"{prompt.problem}/{num_attempts}/{place}", sampling.seed),
            version=sampling.version,
        )
        for completion in await generator.generate(request):
            marks = await task.judge(prompt, start + completion.token_ids)
            is_right.append(marks.reward > 0)
    return np.array(is_right)
