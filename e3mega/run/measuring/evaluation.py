"""Evaluates models on benchmarks: from the cache, and from servers for what it lacks."""

import asyncio
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tokenizers import Tokenizer

from e3mega.errors import E3Error
from e3mega.evaluate.benchmark import Benchmark, Protocol, measure
from e3mega.evaluate.forcing import ForcingWords, forcing_words
from e3mega.evaluate.sampling import NoServer, NotCachedError, Source
from e3mega.evaluate.store import CompletionStore, model_digest
from e3mega.generation.model_folder import ModelFolder
from e3mega.metrics import MetricsWriter
from e3mega.plan.paths import RunPaths
from e3mega.run.measuring.model_source import Trained, model_at, trained_at
from e3mega.run.measuring.sampling_progress import SamplingProgress
from e3mega.run.measuring.tier import TierOrder, open_tier
from e3mega.spec.schema.generation import GenerationOptions
from e3mega.spec.schema.layout import GenerationLayout
from e3mega.tasks.catalog import build_task
from e3mega.tasks.options import TaskOptions
from e3mega.tasks.sizes import max_prompt_tokens

LABEL = "model"
"""The evaluation label of a model that is measured outside of a run."""


@dataclass(frozen=True, slots=True)
class EvaluationOrder:
    """What one command measures."""

    models: tuple[Path, ...]
    """Hugging Face folders, runs or checkpoints, each measured on every benchmark."""
    benchmarks: dict[str, TaskOptions]
    protocol: Protocol
    """Its training budget stands for models whose run does not tell one."""
    layout: GenerationLayout
    generation: GenerationOptions
    cache: Path
    out: Path
    """A folder for each model, the servers' logs and the page."""
    wait_text: str
    """What budget forcing tells the model."""
    end_of_thinking: str


@dataclass(frozen=True, slots=True)
class Evaluated:
    """A measured model. Example: ``Evaluated("quickstart", folder, 0, 128000)``."""

    name: str
    folder: Path
    """Laid out like a run's, with the events of the measurement."""
    num_generated_tokens: int
    num_reused_tokens: int


def evaluate_models(order: EvaluationOrder) -> list[Evaluated]:
    """Measure every model; what was answered before a kill is not generated again."""
    names = _names(order.models)
    return [
        asyncio.run(_evaluate(order, name, path))
        for name, path in zip(names, order.models, strict=True)
    ]


def _names(models: Sequence[Path]) -> list[str]:
    """The last part of each path that is not ``hf`` or ``export``, numbered where two agree.

    A checkpoint has the name of its run before its own.
    """
    names: list[str] = []
    for path in models:
        parts = [part for part in path.resolve().parts if part not in ("hf", "export")]
        is_of_run = len(parts) > 2 and parts[-2] == "checkpoints"
        words = f"{parts[-3]}-{parts[-1]}" if is_of_run else parts[-1]
        name = re.sub(r"[^A-Za-z0-9._-]", "_", words)
        names.append(name if name not in names else f"{name}-{len(names)}")
    return names


async def _evaluate(order: EvaluationOrder, name: str, path: Path) -> Evaluated:
    model = model_at(path, order.cache)
    trained = trained_at(path)
    protocol = _protocol(order, model, trained)
    store = CompletionStore(order.cache, model_digest(model.path))
    paths = RunPaths(order.out / name)
    source = Source((NoServer(),), store, max_in_flight=1)
    benchmarks = [
        Benchmark(benchmark, build_task(options, protocol.seed, model.path), _words(order, model))
        for benchmark, options in order.benchmarks.items()
    ]
    try:
        await _measure(benchmarks, source, protocol, paths, name=name, trained=trained)
    except NotCachedError:
        longest = max(protocol.budgets) + max(map(max_prompt_tokens, order.benchmarks.values()))
        tier = TierOrder(model, order.out / name, longest, order.layout, order.generation)
        progress = SamplingProgress(name, order.layout.num_replicas)
        try:
            async with open_tier(tier) as clients:
                progress.ready()
                in_flight = order.generation.max_num_seqs * len(clients)
                source = Source(clients, store, max_in_flight=in_flight, watch=progress.watch)
                await _measure(benchmarks, source, protocol, paths, name=name, trained=trained)
        finally:
            progress.close()
    finally:
        for benchmark in benchmarks:
            await benchmark.task.close()
    return Evaluated(name, paths.run_dir, source.num_generated, source.num_reused)


async def _measure(
    benchmarks: Sequence[Benchmark],
    source: Source,
    protocol: Protocol,
    paths: RunPaths,
    *,
    name: str,
    trained: Trained | None,
) -> None:
    """Write the events anew; a measurement that was cut off leaves none behind."""
    shutil.rmtree(paths.metrics("loop").parent, ignore_errors=True)
    out = MetricsWriter(paths.metrics("loop"))
    out.write("run_started", name=name, seed=protocol.seed)
    if protocol.training_budget is not None:
        out.write(
            "stage_started",
            stage=trained.stage if trained is not None else "training",
            index=0,
            mode="rl",
            budget_tokens=protocol.training_budget,
            version=0,
        )
    try:
        for benchmark in benchmarks:
            await measure(benchmark, source, protocol, out, label=LABEL)
        out.write("run_finished", version=0)
    finally:
        out.close()


def _protocol(order: EvaluationOrder, model: ModelFolder, trained: Trained | None) -> Protocol:
    """The order's protocol with what the model's run knows, its budgets within the context."""
    protocol = order.protocol
    if trained is not None and protocol.training_budget is None:
        protocol = replace(protocol, training_budget=trained.budget_tokens)
    room = model.max_context_tokens - max(map(max_prompt_tokens, order.benchmarks.values()))
    if max(protocol.budgets) > room:
        raise E3Error(
            f"{model.path}: a budget of {max(protocol.budgets)} tokens and the longest prompt do "
            f"not fit into the model's context of {model.max_context_tokens} tokens; use budgets "
            f"of at most {room}"
        )
    return protocol


def _words(order: EvaluationOrder, model: ModelFolder) -> ForcingWords:
    if not order.protocol.max_waits:
        return ForcingWords((), (), model.end_token_ids)
    tokenizer = Tokenizer.from_file(str(model.path / "tokenizer.json"))
    return forcing_words(
        tokenizer, order.wait_text, order.end_of_thinking, end_tokens=model.end_token_ids
    )
