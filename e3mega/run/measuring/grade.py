"""Grades a data set by a model: servers, journal, progress, and the files that come of it."""

# pyright: basic
# (pyarrow ships no types, so the strict rules would name every line that touches it)

import asyncio
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from e3mega.errors import E3Error
from e3mega.evaluate.difficulty import Thresholds, by_quantiles, by_thresholds
from e3mega.evaluate.grade_journal import GradedProblem, GradeJournal
from e3mega.evaluate.grading import Sampling, ToGrade, grade_problems
from e3mega.generation.model_folder import ModelFolder
from e3mega.plan.paths import GradePaths, unfinished
from e3mega.rollout.whole_file import write_whole
from e3mega.run.measuring.grade_progress import GradeProgress
from e3mega.run.measuring.model_source import model_at
from e3mega.run.measuring.tier import TierOrder, open_tier
from e3mega.spec.schema.generation import GenerationOptions
from e3mega.spec.schema.layout import GenerationLayout
from e3mega.tasks.catalog import build_task
from e3mega.tasks.interface import Task
from e3mega.tasks.options import TaskOptions
from e3mega.tasks.sizes import max_prompt_tokens
from e3mega.tasks.text_problems import HELD_OUT, ProblemSet, TextProblem, write_problems

TRAIN = "train"


@dataclass(frozen=True, slots=True)
class GradeOrder:
    """What is graded, by whom, and where it goes."""

    model: Path
    task: TaskOptions
    sampling: Sampling
    splits: tuple[str, ...]
    """``train``, ``held_out`` or both."""
    max_problems: int | None
    """Most problems of each split; None for all."""
    parts: Thresholds | int
    """By what the problems are split: thresholds, or a number of parts as even as can be."""
    layout: GenerationLayout
    generation: GenerationOptions
    out: Path


@dataclass(frozen=True, slots=True)
class GradeSummary:
    """What came of a grading. Example: ``GradeSummary({"easy": 12}, 0.41, 16, 0.02, {}, 9800)``."""

    num_problems: dict[str, int]
    """By the name of the part."""
    pass_rate: float
    num_samples: int
    truncated_frac: float
    failures: dict[str, int]
    """Samples that could not be graded, by reason."""
    num_tokens: int


def grade(order: GradeOrder) -> GradeSummary:
    """Grade what is not graded yet, then write the files; E3Error with what is wrong."""
    asyncio.run(_grade(order))
    return _conclude(order)


async def _grade(order: GradeOrder) -> None:
    model = model_at(order.model, order.out)
    paths = GradePaths(order.out)
    journal = GradeJournal(paths.journal, _identity(order, model))
    task = build_task(order.task, order.sampling.seed, model.path)
    try:
        done = {problem.index for problem in journal.finished()}
        problems = list(_indices(order, task))
        if not problems:
            raise E3Error(
                f"the task has no problems of the split {' and '.join(order.splits)}; there are "
                f"{task.num_training} for training and {task.num_held_out} held out; choose "
                "another --split"
            )
        progress = GradeProgress(len(problems), len(done))
        todo = (each for each in _prompts(problems, task) if each.index not in done)
        if len(done) < len(problems):
            await _sample(order, model, task, todo, journal, progress)
        progress.close()
    finally:
        await task.close()


async def _sample(
    order: GradeOrder,
    model: ModelFolder,
    task: Task,
    todo: Iterator[ToGrade],
    journal: GradeJournal,
    progress: GradeProgress,
) -> None:
    longest = max_prompt_tokens(order.task) + order.sampling.max_tokens
    if longest > model.max_context_tokens:
        raise E3Error(
            f"{model.path}: a prompt and --max-tokens {order.sampling.max_tokens} do not fit into "
            f"the model's context of {model.max_context_tokens} tokens; lower --max-tokens"
        )
    tier = TierOrder(model, order.out, longest, order.layout, order.generation)
    async with open_tier(tier) as clients:
        num_sequences = order.generation.max_num_seqs * len(clients)
        await grade_problems(
            todo,
            task=task,
            generators=clients,
            sampling=order.sampling,
            # Half as many again as the servers decode at once, so that none waits for grading.
            num_in_flight=max(len(clients), 3 * num_sequences // (2 * order.sampling.num_samples)),
            journal=journal,
            on_graded=progress.add,
        )


def _identity(order: GradeOrder, model: ModelFolder) -> dict[str, object]:
    """What must be the same for a grading to go on."""
    files = sorted(model.path.glob("*.safetensors"))
    return {
        "model": [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files],
        "task": order.task.model_dump(mode="json"),
        "sampling": asdict(order.sampling),
        "splits": order.splits,
        "max_problems": order.max_problems,
    }


def _indices(order: GradeOrder, task: Task) -> Iterator[tuple[str, int]]:
    for split in order.splits:
        size = task.num_training if split == TRAIN else task.num_held_out
        for place in range(size if order.max_problems is None else min(size, order.max_problems)):
            yield split, place


def _prompts(problems: Sequence[tuple[str, int]], task: Task) -> Iterator[ToGrade]:
    has_held_out = any(split == HELD_OUT for split, _ in problems)
    count = sum(split == HELD_OUT for split, _ in problems)
    held_out = task.held_out_prompts(count) if has_held_out else ()
    for index, (split, place) in enumerate(problems):
        prompt = held_out[place] if split == HELD_OUT else task.training_prompt(place)
        yield ToGrade(index, prompt, split)


def _conclude(order: GradeOrder) -> GradeSummary:
    """Write the problems with their parts, the completions, and the summary."""
    paths = GradePaths(order.out)
    journal = GradeJournal(paths.journal, _identity(order, model_at(order.model, order.out)))
    rows = [(each.index, _light(each)) for each in journal.finished()]
    graded = [light for _, light in sorted(rows, key=lambda row: row[0])]
    rates = [each.pass_rate for each in graded]
    parts = order.parts
    named = by_quantiles(rates, parts) if isinstance(parts, int) else by_thresholds(rates, parts)
    problems = {
        split: tuple(
            TextProblem(each.problem, name, each.pass_rate)
            for each, name in zip(graded, named, strict=True)
            if each.split == split
        )
        for split in (TRAIN, HELD_OUT)
    }
    files = (paths.problems, paths.completions)
    write_problems(unfinished(files[0]), ProblemSet(problems[TRAIN], problems[HELD_OUT]))
    _write_completions(unfinished(files[1]), journal)
    for path in files:
        unfinished(path).replace(path)
    num_samples = sum(each.num_samples for each in graded)
    summary = GradeSummary(
        num_problems={name: named.count(name) for name in sorted(set(named))},
        pass_rate=sum(rates) / len(rates),
        num_samples=order.sampling.num_samples,
        truncated_frac=sum(each.num_truncated for each in graded) / num_samples,
        failures=_counted([each for light in graded for each in light.failures]),
        num_tokens=sum(each.num_tokens for each in graded),
    )
    write_whole(paths.summary, (json.dumps(asdict(summary), indent=2) + "\n").encode())
    return summary


@dataclass(frozen=True, slots=True)
class _Light:
    """A graded problem without its texts, of which there may be gigabytes."""

    problem: str
    split: str
    pass_rate: float
    num_samples: int
    num_tokens: int
    num_truncated: int
    failures: tuple[str, ...]


def _light(graded: GradedProblem) -> _Light:
    samples = graded.samples
    return _Light(
        graded.problem,
        graded.split,
        graded.pass_rate,
        len(samples),
        sum(sample.num_tokens for sample in samples),
        sum(sample.is_truncated for sample in samples),
        tuple(sample.failure for sample in samples if sample.failure),
    )


def _counted(words: Sequence[str]) -> dict[str, int]:
    return {word: words.count(word) for word in sorted(set(words))}


_COMPLETIONS = pa.schema(
    [
        ("problem", pa.string()),
        ("slice", pa.string()),
        ("split", pa.string()),
        ("text", pa.string()),
        ("reward", pa.float64()),
        ("failure", pa.string()),
        ("num_tokens", pa.int64()),
    ]
)


def _write_completions(path: Path, journal: GradeJournal) -> None:
    """One row a completion, problem by problem, so that memory does not grow with them."""
    with pq.ParquetWriter(path, _COMPLETIONS, compression="zstd") as writer:
        for graded in journal.finished():
            rows = [
                {
                    "problem": graded.problem,
                    "slice": graded.slice_name,
                    "split": graded.split,
                    "text": sample.text,
                    "reward": sample.reward,
                    "failure": sample.failure,
                    "num_tokens": sample.num_tokens,
                }
                for sample in graded.samples
            ]
            writer.write_table(pa.Table.from_pylist(rows, schema=_COMPLETIONS))
