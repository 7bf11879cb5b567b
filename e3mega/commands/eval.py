"""``e3mega eval``: measures models on benchmarks and compares them in one table and page."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from e3mega.commands.numbers import (
    above_zero,
    nucleus,
    positive,
    several,
    several_tokens,
    tokens,
    whole,
)

HELP = "measure models over token budgets and compare them"

if TYPE_CHECKING:
    from e3mega.run.measuring.evaluation import EvaluationOrder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command is told."""
    add = parser.add_argument
    add(
        "models",
        type=Path,
        nargs="+",
        metavar="MODEL",
        help="a Hugging Face folder, a run or a checkpoint",
    )
    add(
        "--task",
        action="append",
        required=True,
        metavar="TASK",
        help="a fragment of specs/fragments/task, or a file with a task section; may be repeated",
    )
    add(
        "--budgets",
        type=several_tokens,
        required=True,
        metavar="TOKENS,...",
        help="test budgets, e.g. 64,128,256 or 4k,8k,16k; all are read off the longest completions",
    )
    add(
        "--training-budget",
        type=tokens,
        metavar="TOKENS",
        help="where extrapolation is counted from (default: what a run trained at last)",
    )
    add(
        "--problems",
        type=positive,
        default=512,
        metavar="N",
        help="held-out problems of each task, all if it has fewer",
    )
    add("--samples", type=positive, default=1, metavar="N", help="completions of each problem")
    add(
        "--pass-k",
        type=several,
        default="1,2,4,8",
        metavar="K,...",
        help="k of pass@k, up to the samples; 0 for none",
    )
    add("--separate", action="store_true", help="generate every budget anew, too")
    add("--waits", type=whole, default=0, metavar="N", help="force the model on up to N times")
    add("--wait-text", default="Wait", metavar="TEXT", help="what budget forcing tells the model")
    add("--end-of-thinking", default="</think>", metavar="TEXT", help="what it cuts off")
    add("--temperature", type=above_zero, default=1.0)
    add("--top-p", type=nucleus, default=1.0)
    add("--top-k", type=whole, default=0, help="0 for all")
    add("--seed", type=whole, default=1, help="of the samples and of the task's held-out split")
    add("--replicas", type=positive, default=1, help="servers of each model")
    add("--device", choices=("cpu", "gpu"), default="cpu")
    add("--out", type=Path, default=Path("runs/evaluation"), metavar="DIR")
    add("--cache", type=Path, default=Path("runs/completions"), metavar="DIR")


def run(options: argparse.Namespace) -> int:
    """Run the command; its exit status."""
    from rich.console import Console

    from e3mega.report.evaluated import evaluation_table
    from e3mega.report.page import write_report
    from e3mega.report.runs import read_run
    from e3mega.run.measuring.evaluation import evaluate_models

    console = Console()
    done = evaluate_models(_order(options))
    folders = [each.folder for each in done]
    console.print(evaluation_table([read_run(folder) for folder in folders]))
    for each in done:
        console.print(
            f"{each.name}: {each.num_generated_tokens} tokens generated, "
            f"{each.num_reused_tokens} read from the cache",
            highlight=False,
        )
    console.print(f"page:   {write_report(folders)}", soft_wrap=True, highlight=False)
    return 0


def _order(options: argparse.Namespace) -> "EvaluationOrder":
    from e3mega.errors import E3Error
    from e3mega.evaluate.benchmark import Protocol
    from e3mega.run.measuring.evaluation import EvaluationOrder
    from e3mega.spec.schema.generation import GenerationOptions
    from e3mega.spec.schema.layout import Device, GenerationLayout
    from e3mega.spec.task_file import named_task

    training = options.training_budget
    if training is not None and training >= max(options.budgets):
        raise E3Error(f"--training-budget: {training}: no larger one is among --budgets; add some")
    protocol = Protocol(
        budgets=options.budgets,
        training_budget=training,
        num_problems=options.problems,
        samples_per_problem=options.samples,
        pass_k=tuple(k for k in options.pass_k if k),
        has_separate_budgets=options.separate,
        max_waits=options.waits,
        temperature=options.temperature,
        top_p=options.top_p,
        top_k=options.top_k,
        seed=options.seed,
    )
    return EvaluationOrder(
        models=tuple(options.models),
        benchmarks=dict(named_task(name) for name in options.task),
        protocol=protocol,
        layout=GenerationLayout(device=Device(options.device), num_replicas=options.replicas),
        generation=GenerationOptions(temperature=options.temperature),
        cache=options.cache,
        out=options.out,
        wait_text=options.wait_text,
        end_of_thinking=options.end_of_thinking,
    )
