"""Samples every problem of a data set and keeps what came of it."""

import asyncio
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from e3mega.evaluate.grade_journal import GradedProblem, GradedSample, GradeJournal
from e3mega.rollout.records import Completion, FinishReason, GroupRequest
from e3mega.tasks.interface import Prompt, Task


class Generator(Protocol):
    """One generation server, as a grading needs it."""

    async def generate(self, request: GroupRequest) -> tuple[Completion, ...]:
        """All samples of one prompt; raises TierError."""
        ...


@dataclass(frozen=True, slots=True)
class Sampling:
    """How each problem is sampled. Example: ``Sampling(16, 8192, 0.6, 0.95, 0, 1, 0)``."""

    num_samples: int
    max_tokens: int
    temperature: float
    top_p: float
    top_k: int
    seed: int
    version: int
    """The version that the servers give to their weights."""


@dataclass(frozen=True, slots=True)
class ToGrade:
    """A prompt with its place and its split. Example: ``ToGrade(0, prompt, "train")``."""

    index: int
    prompt: Prompt
    split: str


async def grade_problems(
    problems: Iterator[ToGrade],
    *,
    task: Task,
    generators: Sequence[Generator],
    sampling: Sampling,
    num_in_flight: int,
    journal: GradeJournal,
    on_graded: Callable[[GradedProblem], None],
) -> None:
    """Grade all problems, at most ``num_in_flight`` at a time; memory does not grow with them.

    Raises what a server raises, with what was finished before it kept.
    """

    async def work(number: int) -> None:
        generator = generators[number % len(generators)]
        for problem in problems:
            graded = await _graded(problem, task, generator, sampling)
            journal.append(graded)
            on_graded(graded)

    workers = [asyncio.create_task(work(number)) for number in range(num_in_flight)]
    try:
        for finished in asyncio.as_completed(workers):
            await finished
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)


async def _graded(
    problem: ToGrade, task: Task, generator: Generator, sampling: Sampling
) -> GradedProblem:
    prompt = problem.prompt
    request = GroupRequest(
        index=problem.index,
        prompt=prompt,
        num_samples=sampling.num_samples,
        max_tokens=sampling.max_tokens,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        seed=problem_seed(prompt.problem, sampling.seed),
        version=sampling.version,
    )
    samples: list[GradedSample] = []
    for completion in await generator.generate(request):
        marks = await task.judge(prompt, completion.token_ids)
        samples.append(
            GradedSample(
                text=_body(completion, task),
                reward=marks.reward,
                failure=marks.failure.value,
                num_tokens=len(completion.token_ids),
                is_truncated=completion.finish_reason is FinishReason.LENGTH,
            )
        )
    return GradedProblem(
        problem.index, prompt.problem, prompt.slice_name, problem.split, tuple(samples)
    )


def problem_seed(problem: str, seed: int) -> int:
    """A seed of the problem's own, so that it does not depend on which others are graded.

    Below 2**48, so that all samples' seeds are below vLLM's largest.
    """
    digest = hashlib.sha256(f"{seed}/{problem}".encode()).digest()
    return int.from_bytes(digest[:6], "big")


def _body(completion: Completion, task: Task) -> str:
    ids = completion.token_ids
    has_end = bool(ids) and ids[-1] in task.end_token_ids
    return task.text(ids[:-1] if has_end else ids)
