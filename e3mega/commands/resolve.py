"""``e3mega resolve``: prints a spec with the origin of every value."""

import argparse
import sys

from e3mega.commands.spec_arguments import add_spec, resolved_spec

HELP = "print a spec with the origin of every value"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command is told."""
    add_spec(parser)


def run(options: argparse.Namespace) -> int:
    """Run the command; its exit status."""
    from e3mega.spec.render import resolved_text

    sys.stdout.write(resolved_text(resolved_spec(options)))
    return 0
