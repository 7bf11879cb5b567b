"""Measuring a model through a fake server: the cache, kills, protocols that agree, forcing."""

import asyncio
import io
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from rich.console import Console
from tokenizers import Tokenizer

from e3mega.errors import E3Error
from e3mega.evaluate.benchmark import Benchmark, Protocol, measure
from e3mega.evaluate.forcing import ForcingWords, continuation, forcing_words
from e3mega.evaluate.sampling import NoServer, NotCachedError, Source
from e3mega.evaluate.store import CompletionStore, model_digest, request_digest
from e3mega.metrics import MetricsWriter
from e3mega.plan.paths import RunPaths
from e3mega.report.evaluated import difference_in_errors, evaluation_table
from e3mega.report.runs import Run, read_run
from e3mega.rollout.records import Completion, FinishReason, GroupRequest, VersionSpan
from e3mega.spec.task_file import named_task
from e3mega.tasks.catalog import build_task
from e3mega.tasks.interface import Prompt, Task
from tests.fakes import FakeServer, Killed

NAME, OPTIONS = named_task("countdown-3")
TASK = build_task(OPTIONS, 1, Path("unused"))
WORDS = ForcingWords((5,), (), TASK.end_token_ids)
PROTOCOL = Protocol(
    budgets=(8, 16, 32, 64, 128),
    training_budget=32,
    num_problems=40,
    samples_per_problem=2,
    pass_k=(1, 2, 4),
    has_separate_budgets=False,
    max_waits=0,
    temperature=1.0,
    top_p=1.0,
    top_k=0,
    seed=1,
)


EXAMPLES = {
    trace.prompt.problem: trace.token_ids
    for trace in map(TASK.trace, range(1500))
    if trace.has_hit and TASK.mark(trace.prompt, trace.token_ids).reward > 0
}
PROMPTS = {TASK.trace(index).prompt.problem: TASK.trace(index).prompt for index in range(1500)}


class SolvableTask:
    """The task, with problems that a trace is known for in place of the held-out ones."""

    def __getattr__(self, name: str) -> object:
        return getattr(TASK, name)

    def held_out_prompts(self, count: int) -> tuple[Prompt, ...]:
        """The first problems with an example."""
        return tuple(PROMPTS[problem] for problem in EXAMPLES)[:count]


class Guesser(FakeServer):
    """Answers a problem with attempts for others, and one time of three with a hit behind them.

    Its tokens depend on prompt and seed alone, so a longer answer begins with the shorter one.
    """

    def _sample(self, request: GroupRequest, seed: int) -> Completion:
        rng = np.random.default_rng([seed % 2**32, seed >> 32])
        tokens: list[int] = []
        while len(tokens) < 200:
            tokens += TASK.trace(int(rng.integers(3000))).token_ids[:-1]
            if rng.random() < 0.4:
                tokens = tokens[: int(rng.integers(60))]
                break
        example = EXAMPLES[request.prompt.problem]
        tokens += example if rng.random() < 0.34 else [TASK.end_token_ids[0]]
        reason = FinishReason.STOP
        if len(tokens) > request.max_tokens:
            tokens, reason = tokens[: request.max_tokens], FinishReason.LENGTH
        spans = (VersionSpan(0, 0, len(tokens)),)
        return Completion(tuple(tokens), (-1.0,) * len(tokens), reason, spans)


def evaluate(
    folder: Path, server: FakeServer | NoServer, protocol: Protocol = PROTOCOL
) -> tuple[Run, Source]:
    store = CompletionStore(folder / "cache", "0" * 64)
    source = Source((server,), store, max_in_flight=4)
    paths = RunPaths(folder / "model")
    paths.metrics("loop").unlink(missing_ok=True)
    out = MetricsWriter(paths.metrics("loop"))
    out.write("run_started", name="model", seed=1)
    benchmark = Benchmark(NAME, cast("Task", SolvableTask()), WORDS)
    asyncio.run(measure(benchmark, source, protocol, out, label="model"))
    out.close()
    return read_run(paths.run_dir), source


class SmallTask(SolvableTask):
    """A task with few held-out problems."""

    def __init__(self, num_held_out: int) -> None:
        self.num_held_out = num_held_out


@pytest.mark.parametrize("num_held_out", [5, 0])
def test_a_benchmark_with_fewer_problems_is_measured_on_all(
    num_held_out: int, tmp_path: Path
) -> None:
    """Contests have 30, so several benchmarks at once could not share one --problems else."""
    source = Source((Guesser(TASK),), CompletionStore(tmp_path, "0" * 64), max_in_flight=4)
    benchmark = Benchmark(NAME, cast("Task", SmallTask(num_held_out)), WORDS)
    paths = RunPaths(tmp_path / "model")
    out = MetricsWriter(paths.metrics("loop"))
    work = measure(benchmark, source, PROTOCOL, out, label="model")
    if num_held_out:
        asyncio.run(work)
        out.write("run_started", name="model", seed=1)
        assert read_run(paths.run_dir).of("evaluation")[0]["num_problems"] == 5
    else:
        with pytest.raises(E3Error, match="no held-out problems to measure on"):
            asyncio.run(work)
    out.close()


def test_five_budgets_are_read_off_one_generation(tmp_path: Path) -> None:
    server = Guesser(TASK)
    run, _ = evaluate(tmp_path, server)
    assert server.num_generated == PROTOCOL.num_problems
    names = [event["slice"] for event in run.of("evaluation")]
    assert names == ["countdown-3", "countdown-3, easy", "countdown-3, hard"]
    for event in run.of("evaluation"):
        assert event["budgets"] == list(PROTOCOL.budgets)
        assert event["training_budget"] == 32
    (pass_k,) = run.of("pass_k")
    assert pass_k["k"] == [1, 2], "k above the samples is left out"


def test_a_killed_evaluation_generates_nothing_twice(tmp_path: Path) -> None:
    protocol = replace(PROTOCOL, has_separate_budgets=True, max_waits=2)
    whole_server = Guesser(TASK)
    whole, _ = evaluate(tmp_path / "whole", whole_server, protocol)
    num_generated = 0
    for kill_after in (1, 30, 60, 150):
        server = Guesser(TASK, kill_after=kill_after)
        with pytest.raises(Killed):
            evaluate(tmp_path / "killed", server, protocol)
        num_generated += server.num_generated
    last = Guesser(TASK)
    resumed, source = evaluate(tmp_path / "killed", last, protocol)
    assert num_generated + last.num_generated == whole_server.num_generated
    assert source.num_reused > 0
    for kind in ("evaluation", "pass_k", "separate", "forcing"):
        found, wanted = (
            [{**event, "time": 0} for event in each.of(kind)] for each in (resumed, whole)
        )
        assert found == wanted and found


def test_a_finished_evaluation_needs_no_server(tmp_path: Path) -> None:
    with pytest.raises(NotCachedError):
        evaluate(tmp_path, NoServer())
    evaluate(tmp_path, Guesser(TASK))
    run, source = evaluate(tmp_path, NoServer())
    assert run.of("evaluation") and source.num_generated == 0


def test_a_torn_line_of_the_cache_is_generated_again(tmp_path: Path) -> None:
    evaluate(tmp_path, Guesser(TASK))
    (path,) = (tmp_path / "cache").rglob("completions.jsonl")
    path.write_bytes(path.read_bytes()[:-40])
    server = Guesser(TASK)
    evaluate(tmp_path, server)
    assert server.num_generated == 1
    evaluate(tmp_path, NoServer())


def test_truncation_and_separate_generation_agree_within_error(tmp_path: Path) -> None:
    protocol = replace(PROTOCOL, has_separate_budgets=True, num_problems=300, samples_per_problem=4)
    run, _ = evaluate(tmp_path, Guesser(TASK), protocol)
    whole = next(event for event in run.of("evaluation") if event["slice"] == NAME)
    (separate,) = run.of("separate")
    assert max(whole["accuracy"]) > 0.1, "the guesser solves something"
    assert whole["accuracy"] != separate["accuracy"], "they are different generations"
    assert difference_in_errors(whole, separate) < 3.5
    assert evaluation_table([run]).row_count == 6, "three slices, each with its name above"


def test_the_table_of_two_models_at_five_budgets_fits_a_terminal(tmp_path: Path) -> None:
    protocol = replace(PROTOCOL, has_separate_budgets=True)
    run, _ = evaluate(tmp_path, Guesser(TASK), protocol)
    runs = [replace(run, name=name) for name in ("quickstart", "quickstart-step_000310")]
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(evaluation_table(runs))
    shown = console.export_text()
    (event,) = [event for event in run.of("evaluation") if event["slice"] == NAME]
    assert "…" not in shown and max(map(len, shown.splitlines())) <= 80
    for value in event["accuracy"]:
        assert shown.count(f"{100 * value:.1f}±") >= 2


def test_waits_lengthen_completions_up_to_the_budget(tmp_path: Path) -> None:
    protocol = replace(PROTOCOL, max_waits=3)
    run, _ = evaluate(tmp_path, Guesser(TASK), protocol)
    (forcing,) = run.of("forcing")
    assert forcing["num_waits"] == [0, 1, 2, 3]
    tokens = forcing["mean_tokens"]
    assert sorted(tokens) == tokens and tokens[0] < tokens[-1] <= 128
    whole = next(event for event in run.of("evaluation") if event["slice"] == NAME)
    assert forcing["accuracy"][0] == pytest.approx(whole["accuracy"][-1])


def test_an_end_and_the_answer_behind_the_thinking_are_cut_off() -> None:
    words = ForcingWords((50, 51), (7, 8), (1,))
    assert continuation((2, 3, 1), words) == (2, 3, 50, 51)
    assert continuation((2, 7, 3, 7, 8, 4, 1), words) == (2, 7, 3, 50, 51)
    assert continuation((2, 7), replace(words, end_of_thinking=())) == (2, 7, 50, 51)


def test_the_content_alone_names_an_answer(tmp_path: Path) -> None:
    request = GroupRequest(0, Prompt("1 2", (4, 5), "easy"), 2, 64, 1.0, 1.0, 0, 9, 0)
    same = replace(request, index=3, prompt=Prompt("other words", (4, 5), "hard"))
    assert request_digest(request) == request_digest(same)
    for change in (
        {"seed": 10},
        {"max_tokens": 65},
        {"temperature": 0.5},
        {"top_p": 0.9},
        {"num_samples": 3},
        {"prompt": Prompt("1 2", (5, 4), "easy")},
    ):
        assert request_digest(replace(request, **change)) != request_digest(request)
    (tmp_path / "model.safetensors").write_bytes(b"1")
    first = model_digest(tmp_path)
    (tmp_path / "README.md").write_text("words")
    assert model_digest(tmp_path) == first
    (tmp_path / "model.safetensors").write_bytes(b"2")
    assert model_digest(tmp_path) != first


def test_words_that_the_model_cannot_write_are_no_words_of_waiting(tmp_path: Path) -> None:
    TASK.write_tokenizer(tmp_path)
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    with pytest.raises(E3Error, match="'Wait': the model's tokenizer has no tokens"):
        forcing_words(tokenizer, "Wait", "</think>", end_tokens=(1,))
    words = forcing_words(tokenizer, "no", "</think>", end_tokens=(1,))
    assert words == ForcingWords((tokenizer.token_to_id("no"),), (), (1,))
    assert forcing_words(tokenizer, "", "none", end_tokens=(1,)).wait == ()
