"""``e3mega watch``: shows where a run stands until it ends."""

import argparse
import time

from e3mega.commands.run_argument import add_run, run_dir_of

HELP = "show where a run stands until its attempt ends"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command is told."""
    add_run(parser)
    parser.add_argument(
        "--every", type=float, default=2.0, metavar="SECONDS", help="time between looks"
    )


def run(options: argparse.Namespace) -> int:
    """Run the command; its exit status: that of the run's attempt, 0 if it was interrupted."""
    from rich.console import Console
    from rich.live import Live

    from e3mega.run.views.status import PATIENCE_S, read_status, status_view

    run_dir = run_dir_of(options)
    status = read_status(run_dir, patience_s=PATIENCE_S)
    with Live(status_view(status), console=Console(), auto_refresh=False) as live:
        try:
            while status.is_open or not status.attempts:
                time.sleep(options.every)
                status = read_status(run_dir, patience_s=PATIENCE_S)
                live.update(status_view(status), refresh=True)
        except KeyboardInterrupt:
            return 0
    return status.attempts[-1].exit or 0
