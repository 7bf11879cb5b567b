"""One model on one benchmark: curves over budgets, pass@k and budget forcing as events."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from e3mega.errors import E3Error
from e3mega.evaluate.budgets import CurvePoint, accuracy_curve, clustered_stderr
from e3mega.evaluate.extrapolation import extrapolation
from e3mega.evaluate.forcing import ForcingWords, forced_curve
from e3mega.evaluate.outcomes import Outcomes, outcomes_of
from e3mega.evaluate.passk import pass_k_curve
from e3mega.evaluate.sampling import Source
from e3mega.metrics import Json, MetricsWriter
from e3mega.rollout.records import Group, GroupRequest, Purpose
from e3mega.rollout.seeds import group_seed
from e3mega.tasks.interface import Prompt, Task


@dataclass(frozen=True, slots=True)
class Protocol:
    """What is measured, and how it is sampled.

    Example: ``Protocol((64, 128, 256), 64, 512, 4, (1, 2, 4), False, 0, 1.0, 1.0, 0, 1)``.
    """

    budgets: tuple[int, ...]
    """Test budgets, ascending."""
    training_budget: int | None
    """The budget from which extrapolation is counted; None where it is not known."""
    num_problems: int
    """Most held-out problems of a benchmark."""
    samples_per_problem: int
    pass_k: tuple[int, ...]
    """The k of pass@k, ascending, at the largest budget; none of them above the samples."""
    has_separate_budgets: bool
    """Whether every budget is generated anew, too, and not only read off the longest."""
    max_waits: int
    """Most times that budget forcing makes the model wait; 0 for none."""
    temperature: float
    top_p: float
    top_k: int
    seed: int


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A task under a name. Example: ``Benchmark("countdown-3", task, words)``."""

    name: str
    task: Task
    words: ForcingWords


async def measure(
    benchmark: Benchmark, source: Source, protocol: Protocol, out: MetricsWriter, *, label: str
) -> None:
    """Write the events of one benchmark; slices are named ``BENCHMARK`` and ``BENCHMARK, SLICE``.

    Every slice's curve is read off the same generations, each cut at the budgets.
    """
    task = benchmark.task
    prompts = held_out_prompts(task, protocol.num_problems)
    longest = max(protocol.budgets)
    groups = await source.groups(_requests(prompts, protocol, longest, place=0), task)
    every = outcomes_of(groups)
    for name in every.shown_slices:
        shown = benchmark.name if name == "all" else f"{benchmark.name}, {name}"
        outcomes = every.of_slice(name)
        curve = accuracy_curve(outcomes, protocol.budgets)
        out.write(
            "evaluation",
            label=label,
            slice=shown,
            benchmark=benchmark.name,
            **_curve_fields(curve),
            **_beyond(outcomes, protocol),
            mean_attempts=float(outcomes.num_attempts_PS.mean()),
            mean_length=float(outcomes.num_tokens_PS.mean()),
            num_problems=len(outcomes.slices),
            num_samples=protocol.samples_per_problem,
        )
    _write_pass_k(benchmark, every, protocol, out, label=label)
    if protocol.has_separate_budgets:
        await _write_separate(benchmark, prompts, source, protocol, out, label=label)
    if protocol.max_waits:
        await _write_forced(benchmark, groups, source, protocol, out, label=label)


def held_out_prompts(task: Task, most: int) -> tuple[Prompt, ...]:
    """The first ``most`` held-out prompts, all if there are fewer; E3Error if there are none."""
    if task.num_held_out == 0:
        raise E3Error(
            "task: it has no held-out problems to measure on; name a held_out_split, or hold some "
            "out of its training problems"
        )
    return task.held_out_prompts(min(most, task.num_held_out))


def _requests(
    prompts: Sequence[Prompt], protocol: Protocol, max_tokens: int, *, place: int
) -> list[GroupRequest]:
    """One request a prompt; requests of different places share no seed."""
    return [
        GroupRequest(
            index=index,
            prompt=prompt,
            num_samples=protocol.samples_per_problem,
            max_tokens=max_tokens,
            temperature=protocol.temperature,
            top_p=protocol.top_p,
            top_k=protocol.top_k,
            seed=group_seed(
                run_seed=protocol.seed,
                stage_index=0,
                purpose=Purpose.EVALUATE,
                round=place,
                prompt_index=index,
                num_samples=protocol.samples_per_problem,
            ),
            version=0,
        )
        for index, prompt in enumerate(prompts)
    ]


def _curve_fields(curve: Sequence[CurvePoint]) -> dict[str, Json]:
    return {
        "budgets": [point.budget_tokens for point in curve],
        "accuracy": [point.accuracy for point in curve],
        "stderr": [point.stderr for point in curve],
        "truncated": [point.truncated_frac for point in curve],
    }


def _beyond(outcomes: Outcomes, protocol: Protocol) -> dict[str, Json]:
    if protocol.training_budget is None:
        return {}
    found = extrapolation(outcomes, protocol.budgets, protocol.training_budget, seed=protocol.seed)
    if found is None:
        return {}
    return {
        "training_budget": found.from_tokens,
        "extrapolation": found.area,
        "extrapolation_stderr": found.stderr,
    }


def _write_pass_k(
    benchmark: Benchmark, every: Outcomes, protocol: Protocol, out: MetricsWriter, *, label: str
) -> None:
    ks = [k for k in protocol.pass_k if k <= protocol.samples_per_problem]
    if not ks:
        return
    longest = max(protocol.budgets)
    points = pass_k_curve(every.solved_at_PS <= longest, ks, seed=protocol.seed)
    out.write(
        "pass_k",
        label=label,
        slice=benchmark.name,
        k=[point.k for point in points],
        pass_at_k=[point.pass_at_k for point in points],
        stderr=[point.stderr for point in points],
        num_problems=len(every.slices),
        num_samples=protocol.samples_per_problem,
        budget_tokens=longest,
    )


async def _write_separate(
    benchmark: Benchmark,
    prompts: Sequence[Prompt],
    source: Source,
    protocol: Protocol,
    out: MetricsWriter,
    *,
    label: str,
) -> None:
    """Every budget generated with seeds of its own; agrees with truncation within error."""
    points: list[CurvePoint] = []
    for budget in protocol.budgets:
        requests = _requests(prompts, protocol, budget, place=budget)
        groups = await source.groups(requests, benchmark.task)
        points += accuracy_curve(outcomes_of(groups), (budget,))
    out.write("separate", label=label, slice=benchmark.name, **_curve_fields(points))


async def _write_forced(
    benchmark: Benchmark,
    groups: Sequence[Group],
    source: Source,
    protocol: Protocol,
    out: MetricsWriter,
    *,
    label: str,
) -> None:
    seed = _requests((groups[0].request.prompt,), protocol, 1, place=1)[0].seed
    points = await forced_curve(
        groups,
        source,
        benchmark.task,
        benchmark.words,
        max_waits=protocol.max_waits,
        seed=seed,
    )
    out.write(
        "forcing",
        label=label,
        slice=benchmark.name,
        num_waits=[point.num_waits for point in points],
        mean_tokens=[point.mean_tokens for point in points],
        accuracy=[sum(point.accuracy_P) / len(point.accuracy_P) for point in points],
        stderr=[clustered_stderr(np.array(point.accuracy_P)) for point in points],
        num_problems=len(groups),
        budget_tokens=max(protocol.budgets),
    )
