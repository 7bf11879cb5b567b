"""``e3mega diff``: prints what differs between specs, plans or runs, and what follows."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from e3mega.plan.planfile import Plan
    from e3mega.spec.resolve import Resolved

HELP = "print what differs between two specs, plans or runs"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command is told."""
    for side in ("left", "right"):
        parser.add_argument(
            side,
            metavar=side.upper(),
            help="a spec, the folder or the name of a run (before a spec of that name), or what "
            "e3mega plan --json printed",
        )


def run(options: argparse.Namespace) -> int:
    """Run the command; its exit status: 0 also when there are differences."""
    from e3mega.plan.planfile import Plan
    from e3mega.plan.side import plan_side, planned_side
    from e3mega.spec.diff import difference, spec_side
    from e3mega.spec.show_diff import difference_text

    given = [_read(options.left), _read(options.right)]
    if any(isinstance(each, Plan) for each in given):
        # A plan does not hold all of a spec, so a spec is brought to the same form.
        sides = [plan_side(e) if isinstance(e, Plan) else planned_side(e) for e in given]
    else:
        sides = [spec_side(each) for each in given if not isinstance(each, Plan)]
    print(difference_text(difference(*sides)))
    return 0


def _read(name: str) -> "Resolved | Plan":
    """One side: of a run, the resolved spec that it was started with; a plan where it is alone."""
    from e3mega.plan.paths import RunPaths, default_run_dir
    from e3mega.plan.planfile import read_plan
    from e3mega.spec.resolve import find_spec, resolve_spec

    path = Path(name)
    if path == RunPaths(path.parent).plan and RunPaths(path.parent).resolved.is_file():
        return resolve_spec(RunPaths(path.parent).resolved)
    if path.suffix == ".json" and path.is_file():
        return read_plan(path)
    for folder in (path, default_run_dir(name)):
        if RunPaths(folder).resolved.is_file():
            return resolve_spec(RunPaths(folder).resolved)
        if RunPaths(folder).plan.is_file():
            return read_plan(RunPaths(folder).plan)
        if path.exists():
            break
    return resolve_spec(find_spec(name))
