"""``e3mega grade``: records how often a model solves each problem of a task."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from e3mega.commands.numbers import above_zero, nucleus, positive, share, tokens, whole

HELP = "record a model's pass rate on each problem, and split the data by it"

if TYPE_CHECKING:
    from e3mega.run.measuring.grade import GradeOrder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command is told."""
    add = parser.add_argument
    add("model", type=Path, metavar="MODEL", help="a folder, a run or a checkpoint")
    add("--task", required=True, metavar="TASK", help="a task's fragment, or a file with a task")
    add("--out", type=Path, required=True, metavar="DIR", help="for the data set; resumed if begun")
    add("--samples", type=positive, default=16, metavar="N", help="completions of each problem")
    add("--max-tokens", type=tokens, default=8192, metavar="N", help="longest completion")
    add("--temperature", type=above_zero, default=0.6)
    add("--top-p", type=nucleus, default=0.95)
    add("--top-k", type=whole, default=0, help="0 for all")
    add("--seed", type=whole, default=1, help="of the samples and of the task's split")
    add("--split", choices=("train", "held_out", "both"), default="train")
    add("--max-problems", type=positive, metavar="N", help="of each split (default: all)")
    add("--easy-above", type=share, default=10 / 16, metavar="RATE", help="easy above this rate")
    add("--hard-up-to", type=share, default=0.0, metavar="RATE", help="hard up to this rate")
    add("--quantiles", type=positive, metavar="N", help="instead, N parts as even as ties allow")
    add("--replicas", type=positive, default=1, help="servers")
    add("--device", choices=("cpu", "gpu"), default="cpu")


def run(options: argparse.Namespace) -> int:
    """Run the command; its exit status."""
    from e3mega.plan.paths import GradePaths
    from e3mega.run.measuring.grade import grade

    summary = grade(_order(options))
    parts = ", ".join(f"{name} {count}" for name, count in summary.num_problems.items())
    failures = ", ".join(f"{name} {count}" for name, count in summary.failures.items())
    paths = GradePaths(options.out)
    print(f"pass rate {summary.pass_rate:.3f}, truncated {summary.truncated_frac:.3f}")
    print(f"problems: {parts}")
    print(f"not graded: {failures or 'none'}")
    print(
        f"data set:    {paths.problems}  (task.problems; slices {', '.join(summary.num_problems)})"
    )
    print(f"completions: {paths.completions}  (task.traces)")
    return 0


def _order(options: argparse.Namespace) -> "GradeOrder":
    from e3mega.errors import E3Error
    from e3mega.evaluate.difficulty import Thresholds
    from e3mega.evaluate.grading import Sampling
    from e3mega.run.measuring.grade import TRAIN, GradeOrder
    from e3mega.run.measuring.tier import VERSION
    from e3mega.spec.schema.generation import GenerationOptions
    from e3mega.spec.schema.layout import Device, GenerationLayout
    from e3mega.spec.task_file import named_task
    from e3mega.tasks.text_problems import HELD_OUT

    _, task = named_task(options.task)
    if options.hard_up_to > options.easy_above:
        raise E3Error(
            f"--hard-up-to {options.hard_up_to} lies above --easy-above {options.easy_above}"
        )
    return GradeOrder(
        model=options.model,
        task=task,
        sampling=Sampling(
            num_samples=options.samples,
            max_tokens=options.max_tokens,
            temperature=options.temperature,
            top_p=options.top_p,
            top_k=options.top_k,
            seed=options.seed,
            version=VERSION,
        ),
        splits=(TRAIN, HELD_OUT) if options.split == "both" else (options.split,),
        max_problems=options.max_problems,
        parts=options.quantiles or Thresholds(options.easy_above, options.hard_up_to),
        layout=GenerationLayout(device=Device(options.device), num_replicas=options.replicas),
        generation=GenerationOptions(temperature=options.temperature),
        out=options.out,
    )
