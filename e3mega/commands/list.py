"""``e3mega list``: prints the runs below a folder."""

import argparse
from pathlib import Path

HELP = "print the runs below a folder and where each stands"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command is told."""
    parser.add_argument(
        "root", type=Path, nargs="?", metavar="FOLDER", help="folder of run folders (default: runs)"
    )


def run(options: argparse.Namespace) -> int:
    """Run the command; its exit status."""
    from rich.console import Console
    from rich.table import Table

    from e3mega.errors import RecordError
    from e3mega.plan.paths import RunPaths, default_run_root
    from e3mega.run.folder import shown
    from e3mega.run.progress import Progress
    from e3mega.run.status import read_status, state_words

    root: Path = options.root or default_run_root()
    table = Table(box=None, padding=(0, 2, 0, 0))
    for title in ("run", "stage", "steps", "attempts", "state"):
        table.add_column(title)
    for plan in sorted(root.rglob(RunPaths(root).plan.name)):
        try:
            status = read_status(plan.parent)
        except RecordError:
            table.add_row(shown(plan.parent), "", "", "", "of another version of e3mega")
            continue
        progress = Progress(status.plan)
        for event in status.events:
            progress.observe(event)
        steps = sum(stage.step for stage in progress.stages.values())
        stage = progress.current.name if progress.current else ""
        attempts = str(len(status.attempts))
        table.add_row(shown(plan.parent), stage, str(steps), attempts, state_words(status))
    Console().print(table)
    return 0
