"""``e3mega watch``: shows where a run stands until it ends, through all jobs of its chain."""

import argparse
import time
from typing import TYPE_CHECKING

from e3mega.commands.run_argument import add_run, run_dir_of

if TYPE_CHECKING:
    from rich.console import Group

    from e3mega.run.views.status import RunStatus

HELP = "show where a run stands until it ends, through all jobs of its chain"


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

    from e3mega.run.views.status import PATIENCE_S, read_status

    run_dir = run_dir_of(options)
    status = read_status(run_dir, patience_s=PATIENCE_S)
    with Live(_view(status), console=Console(), auto_refresh=False) as live:
        try:
            while status.is_open or not status.attempts or _jobs_to_come(status):
                time.sleep(options.every)
                status = read_status(run_dir, patience_s=PATIENCE_S)
                live.update(_view(status), refresh=True)
        except KeyboardInterrupt:
            return 0
    return status.attempts[-1].exit or 0


def _view(status: "RunStatus") -> "Group":
    """Where the run stands, below what it waits for: a low terminal cuts the end off."""
    from rich.console import Group
    from rich.text import Text

    from e3mega.run.views.status import status_view

    to_come = _jobs_to_come(status)
    wait = [Text(f"waits for its next job; {to_come} to come")] if to_come else []
    return Group(*wait, status_view(status))


def _jobs_to_come(status: "RunStatus") -> int:
    """Jobs of the scheduler that may go on with a run that is not at work."""
    from e3mega.launch.record import jobs_to_come

    if status.is_open or not status.attempts:
        return 0
    return jobs_to_come(status.paths, status.attempts[-1])
