"""``e3mega diff``: prints what differs between two specs or runs, and whether a run may go on."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from e3mega.spec.resolve import Resolved

HELP = "print what differs between two specs or runs"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command is told."""
    for side in ("left", "right"):
        parser.add_argument(
            side, metavar=side.upper(), help="a spec, a run folder, or the plan.json in one"
        )


def run(options: argparse.Namespace) -> int:
    """Run the command; its exit status: 0 also when there are differences."""
    from e3mega.spec.diff import difference
    from e3mega.spec.show_diff import difference_text

    left, right = _resolved(options.left), _resolved(options.right)
    print(difference_text(difference(left, right)))
    return 0


def _resolved(name: str) -> "Resolved":
    """The spec of one side; of a run, the resolved spec that it was started with."""
    from e3mega.plan.paths import RunPaths
    from e3mega.spec.resolve import find_spec, resolve_spec

    path = Path(name)
    folder = path.parent if path.name == "plan.json" else path
    if folder.is_dir() and RunPaths(folder).resolved.is_file():
        return resolve_spec(RunPaths(folder).resolved)
    return resolve_spec(find_spec(name))
