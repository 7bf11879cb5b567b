"""``e3mega run``: starts a run on this machine."""

import argparse
from pathlib import Path

from e3mega.commands.run_argument import add_source, source_of
from e3mega.commands.spec_arguments import add_spec, resolved_spec

HELP = "start a run on this machine and stay until it ends"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command is told."""
    add_spec(parser)
    parser.add_argument(
        "--run-dir", type=Path, metavar="DIR", help="a new folder for the run (default: runs/NAME)"
    )
    add_source(parser)


def run(options: argparse.Namespace) -> int:
    """Run the command; its exit status."""
    from e3mega.plan.compile import checked_plan
    from e3mega.plan.paths import default_run_dir
    from e3mega.run.local import start_run
    from e3mega.spec.render import resolved_text

    resolved = resolved_spec(options)
    run_dir = options.run_dir or default_run_dir(resolved.options.name)
    return start_run(
        checked_plan(resolved), resolved_text(resolved), run_dir, source=source_of(options)
    )
