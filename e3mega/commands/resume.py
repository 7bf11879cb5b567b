"""``e3mega resume``: continues a run from its newest checkpoint."""

import argparse

from e3mega.commands.run_argument import add_run, run_dir_of

HELP = "continue a run from its newest checkpoint, where it was launched"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command is told."""
    add_run(parser)
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="raise a cap, e.g. curriculum.caps.max_generated_tokens=2000k; may be repeated",
    )


def run(options: argparse.Namespace) -> int:
    """Run the command; its exit status."""
    from e3mega.launch.command import relaunch
    from e3mega.run.local import resume_run, set_caps

    run_dir = run_dir_of(options)
    if options.set:
        set_caps(run_dir, options.set)
    launched = relaunch(run_dir)
    return resume_run(run_dir) if launched is None else launched
