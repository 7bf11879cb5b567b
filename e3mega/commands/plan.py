"""``e3mega plan``: prints what a spec would run."""

import argparse
import sys

from e3mega.commands.spec_arguments import add_spec, resolved_spec

HELP = "print what a spec would run, without running it"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command is told."""
    add_spec(parser)
    parser.add_argument("--json", action="store_true", help="print plan.json as the jobs read it")


def run(options: argparse.Namespace) -> int:
    """Run the command; its exit status."""
    from e3mega.plan.compile import checked_plan
    from e3mega.plan.planfile import plan_to_json

    plan = checked_plan(resolved_spec(options))
    if options.json:
        sys.stdout.write(plan_to_json(plan))
        return 0
    from rich.console import Console

    from e3mega.plan.show import print_plan

    print_plan(plan, Console())
    return 0
