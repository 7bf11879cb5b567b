"""``e3mega replay``: an ablation of the loss on recorded rollouts, without generating a token."""

import argparse
from pathlib import Path

HELP = "show what other losses would do on a run's recorded rollouts"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command is told."""
    parser.add_argument("run_dir", type=Path, metavar="RUN", help="folder of a run")
    parser.add_argument(
        "--loss",
        action="append",
        default=[],
        metavar="NAME",
        help="a fragment of specs/fragments/loss, e.g. nsr; may be given several times",
    )


def run(options: argparse.Namespace) -> int:
    """Run the command; its exit status."""
    from e3mega.run.replay import replay_run, replay_table

    for line in replay_table(replay_run(options.run_dir, options.loss)):
        print(line)
    return 0
