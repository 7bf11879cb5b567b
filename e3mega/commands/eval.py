"""``e3mega eval``: measures models on benchmarks and compares them in one table and page."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

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
        required=True,
        metavar="TOKENS,...",
        help="test budgets, e.g. 64,128,256 or 4k,8k,16k; all are read off the longest completions",
    )
    add(
        "--training-budget",
        metavar="TOKENS",
        help="where extrapolation is counted from (default: what a run trained at last)",
    )
    add("--problems", type=int, default=512, metavar="N", help="held-out problems of each task")
    add("--samples", type=int, default=1, metavar="N", help="completions of each problem")
    add("--pass-k", default="1,2,4,8", metavar="K,...", help="k of pass@k, up to the samples")
    add("--separate", action="store_true", help="generate every budget anew, too")
    add("--waits", type=int, default=0, metavar="N", help="force the model on up to N times")
    add("--wait-text", default="Wait", metavar="TEXT", help="what budget forcing tells the model")
    add("--end-of-thinking", default="</think>", metavar="TEXT", help="what it cuts off")
    add("--temperature", type=float, default=1.0)
    add("--top-p", type=float, default=1.0)
    add("--top-k", type=int, default=0, help="0 for all")
    add("--seed", type=int, default=1, help="of the samples and of the task's held-out split")
    add("--replicas", type=int, default=1, help="servers of each model")
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
    from e3mega.evaluate.benchmark import Protocol
    from e3mega.run.measuring.evaluation import EvaluationOrder
    from e3mega.spec.schema.generation import GenerationOptions
    from e3mega.spec.schema.layout import Device, GenerationLayout
    from e3mega.spec.task_file import named_task

    budgets = tuple(sorted({_tokens(word) for word in options.budgets.split(",")}))
    training = options.training_budget
    protocol = Protocol(
        budgets=budgets,
        training_budget=None if training is None else _tokens(training),
        num_problems=options.problems,
        samples_per_problem=options.samples,
        pass_k=tuple(sorted({int(word) for word in options.pass_k.split(",")})),
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


def _tokens(word: str) -> int:
    """A number of tokens; ``4k`` is 4096. Raises E3Error naming what is none."""
    from e3mega.errors import E3Error
    from e3mega.options import parse_token_count

    value = parse_token_count(int(word) if word.isdecimal() else word)
    if not isinstance(value, int) or value <= 0:
        raise E3Error(f"--budgets: {word!r} is no number of tokens; write 8192 or 8k")
    return value
