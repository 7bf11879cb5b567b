"""``e3mega resume``: continues a run from its newest checkpoint."""

import argparse
from pathlib import Path

HELP = "continue a run from its newest checkpoint"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command is told."""
    parser.add_argument("run_dir", type=Path, metavar="RUN", help="the folder of the run")


def run(options: argparse.Namespace) -> int:
    """Run the command; its exit status."""
    from e3mega.run.local import resume_run

    return resume_run(options.run_dir)
