"""``e3mega launch``: shows, or with --apply submits, a run on a site's machines."""

import argparse
from pathlib import Path

from e3mega.commands.spec_arguments import add_spec, resolved_spec

HELP = "launch a run with a site's profile; a dry run unless --apply"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command is told."""
    add_spec(parser)
    parser.add_argument(
        "--on", required=True, metavar="PROFILE", help="a profile, or the name of one in launchers"
    )
    parser.add_argument("--apply", action="store_true", help="submit; else only show")
    parser.add_argument(
        "--run-dir", type=Path, metavar="DIR", help="a new folder that all nodes see"
    )


def run(options: argparse.Namespace) -> int:
    """Run the command; its exit status."""
    from e3mega.launch.command import launch_spec
    from e3mega.launch.profile import cluster_sets, find_profile, read_profile

    profile = read_profile(find_profile(options.on))
    options.set = [*cluster_sets(profile, options.set), *options.set]
    return launch_spec(
        resolved_spec(options), profile, run_dir=options.run_dir, is_applied=options.apply
    )
