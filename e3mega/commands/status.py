"""``e3mega status``: prints where a run stands."""

import argparse

from e3mega.commands.run_argument import add_run, run_dir_of

HELP = "print where a run stands, from any machine that sees its folder"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command is told."""
    add_run(parser)


def run(options: argparse.Namespace) -> int:
    """Run the command; its exit status."""
    from rich.console import Console

    from e3mega.run.views.status import PATIENCE_S, read_status, status_view

    Console().print(status_view(read_status(run_dir_of(options), patience_s=PATIENCE_S)))
    return 0
