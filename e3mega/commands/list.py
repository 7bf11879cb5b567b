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
    from rich.text import Text

    from e3mega.errors import E3Error, RecordError, boundary
    from e3mega.plan.paths import RunPaths, default_run_root

    root: Path = options.root or default_run_root()
    table = Table(box=None, padding=(0, 2, 0, 0))
    for title in ("run", "stage", "steps", "attempts"):
        table.add_column(title, no_wrap=True)
    table.add_column("state")
    for plan in sorted(root.rglob(RunPaths(root).plan.name)):
        cells = ("", "", "")
        try:
            # Whatever lies below the folder; a run that cannot be read hides no other.
            with boundary(E3Error, "cannot be read", words=repr):
                *cells, words = _cells(plan.parent)
        except RecordError:
            words = "of another version of e3mega"
        except E3Error as error:
            words = str(error)
        # The whole reason is what `e3mega status` is for.
        state = Text(words, no_wrap=True, overflow="ellipsis")
        table.add_row(_name(plan.parent, root), *cells, state)
    Console().print(table)
    return 0


def _cells(run_dir: Path) -> tuple[str, str, str, str]:
    """Stage, steps, attempts and state of a run."""
    from e3mega.run.views.progress import Progress
    from e3mega.run.views.status import read_status, state_words

    status = read_status(run_dir)
    progress = Progress(status.plan)
    for event in status.events:
        progress.observe(event)
    stage = progress.current.name if progress.current else ""
    steps = sum(stage.step for stage in progress.stages.values())
    return stage, str(steps), str(len(status.attempts)), state_words(status)


def _name(run_dir: Path, root: Path) -> str:
    """The run's folder as it is called from the one that is listed."""
    return run_dir.name if run_dir == root else str(run_dir.relative_to(root))
