"""``e3mega asymmetry``: tells whether the recipe can work on a model and a task."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from e3mega.commands.numbers import above_zero, nucleus, positive, several, tokens, whole

HELP = "measure whether a model checks better than it solves, before paying for training"

if TYPE_CHECKING:
    from rich.table import Table

    from e3mega.evaluate.asymmetry import Rate
    from e3mega.run.measuring.asymmetry import AsymmetryOrder, Measured


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command is told."""
    add = parser.add_argument
    add("model", type=Path, metavar="MODEL", help="a Hugging Face folder, a run or a checkpoint")
    add("--task", required=True, metavar="TASK", help="a task's fragment, or a file with a task")
    add("--out", type=Path, default=Path("runs/asymmetry"), metavar="DIR")
    add(
        "--problems",
        type=positive,
        default=320,
        metavar="N",
        help="held-out problems, at most",
    )
    add("--samples", type=positive, default=8, metavar="N", help="completions of each problem")
    add("--max-tokens", type=tokens, default=2048, metavar="N", help="longest completion")
    add("--temperature", type=above_zero, default=0.6)
    add("--top-p", type=nucleus, default=0.95)
    add(
        "--attempts",
        type=several,
        default="2,4,8,16",
        metavar="N,...",
        help="chained attempts; 0 for none",
    )
    add(
        "--answers",
        type=positive,
        default=8,
        metavar="N",
        help="answers behind each cut",
    )
    add("--answer-tokens", type=tokens, default=32, metavar="N", help="longest answer")
    add("--scored", type=whole, default=64, metavar="N", help="problems with scored attempts")
    add("--seed", type=whole, default=1, help="of the samples and of the task's split")
    add("--replicas", type=positive, default=1, help="servers")
    add("--device", choices=("cpu", "gpu"), default="cpu")
    add("--cache", type=Path, default=Path("runs/completions"), metavar="DIR")


def run(options: argparse.Namespace) -> int:
    """Run the command; its exit status."""
    from rich.console import Console

    from e3mega.plan.paths import GradePaths
    from e3mega.run.measuring.asymmetry import measure

    measured = measure(_order(options))
    console = Console()
    for table in _tables(measured):
        console.print(table)
    console.print(
        f"{measured.num_generated_tokens} tokens generated, "
        f"{measured.num_reused_tokens} read from the cache",
        highlight=False,
    )
    console.print(f"numbers: {GradePaths(options.out).asymmetry}", soft_wrap=True)
    return 0


def _order(options: argparse.Namespace) -> "AsymmetryOrder":
    from e3mega.run.measuring.asymmetry import AsymmetryOrder
    from e3mega.spec.schema.layout import Device, GenerationLayout
    from e3mega.spec.task_file import named_task

    _, task = named_task(options.task)
    return AsymmetryOrder(
        model=options.model,
        task=task,
        num_problems=options.problems,
        num_samples=options.samples,
        max_tokens=options.max_tokens,
        temperature=options.temperature,
        top_p=options.top_p,
        attempts=tuple(count for count in options.attempts if count > 0),
        num_answers=options.answers,
        answer_tokens=options.answer_tokens,
        num_scored=options.scored,
        seed=options.seed,
        layout=GenerationLayout(device=Device(options.device), num_replicas=options.replicas),
        cache=options.cache,
        out=options.out,
    )


def _tables(measured: "Measured") -> "list[Table]":
    from rich.table import Table

    found = measured.asymmetry
    shares = Table("measured", "share", "95 %", "cases", title="Checking against solving")
    rows: dict[str, Rate] = {
        "attempts that are right (generation)": found.generation,
        "right attempts called right": found.recognised_hits,
        "wrong attempts called wrong": found.recognised_misses,
        "verification (mean of the two)": found.verification,
        "gap (verification - generation)": found.gap,
        "goes on after a failed check": found.continues,
        "right, of completions with a failed check": found.right_with_checks,
        "right, of completions without one": found.right_without_checks,
    }
    for name, rate in rows.items():
        interval = f"{rate.low:.3f} to {rate.high:.3f}"
        shares.add_row(name, f"{rate.value:.3f}", interval, str(rate.num_cases))
    shares.caption = (
        f"{measured.num_completions} completions, {found.mean_attempts:.1f} attempts each, "
        f"accuracy {measured.accuracy:.3f}, truncated {measured.truncated_frac:.3f}"
    )
    tables = [shares]
    if measured.chained:
        ks = [point.k for point in measured.chained[0].points]
        heat = Table("attempts", *(f"pass@{k}" for k in ks), title="pass@k by chained attempts")
        for row in reversed(measured.chained):
            heat.add_row(str(row.num_attempts), *(f"{p.pass_at_k:.3f}" for p in row.points))
        tables.append(heat)
    if measured.pk is not None:
        fit = measured.pk
        title = f"p^k with p = {fit.p:.3f} ({fit.low:.3f} to {fit.high:.3f})"
        curve = Table("k", "all k failed", "95 %", "p^k", title=title)
        for point in fit.points:
            interval = f"{point.low:.3f} to {point.high:.3f}"
            curve.add_row(str(point.k), f"{point.failure:.3f}", interval, f"{point.model:.3f}")
        tables.append(curve)
    if measured.contexts:
        tables.append(_context_table(measured))
    return tables


def _context_table(measured: "Measured") -> "Table":
    from rich.table import Table

    title = "What an attempt tells the next one, nats per token"
    table = Table("attempt", "with the last one", "likelier than it", "it again", "completions")
    table.title = title
    for point in measured.contexts:
        table.add_row(
            str(point.attempt),
            f"{point.context:+.3f} ± {point.context_stderr:.3f}",
            f"{point.progress:+.3f}",
            f"{point.repeat:.3f}",
            str(point.num_completions),
        )
    return table
