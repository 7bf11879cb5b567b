"""``e3mega explain``: tells who set a value of a spec, and why that one won."""

import argparse
import sys

from e3mega.commands.spec_arguments import add_spec, resolved_spec

HELP = "tell who set a value of a spec, and why that one won"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command is told."""
    add_spec(parser)
    parser.add_argument("key", metavar="KEY", help="e.g. loss.ratio.clip_high, or a section")


def run(options: argparse.Namespace) -> int:
    """Run the command; its exit status."""
    from e3mega.spec.explain import explanation

    sys.stdout.write(explanation(resolved_spec(options), tuple(options.key.split("."))))
    return 0
