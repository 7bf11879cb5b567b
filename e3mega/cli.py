"""The command line; every command imports what it needs when it is chosen."""

import argparse
import gc
import sys
from collections.abc import Sequence
from importlib import import_module

from e3mega.errors import E3Error

COMMANDS = (
    "resolve",
    "explain",
    "schema",
    "geometry",
    "plan",
    "diff",
    "sweep",
    "pin",
    "run",
    "grade",
    "asymmetry",
    "launch",
    "resume",
    "status",
    "watch",
    "logs",
    "stop",
    "list",
    "eval",
    "report",
    "replay",
    "theory",
    "doctor",
)
"""Modules of ``e3mega.commands``, in the order that --help lists them."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit status: 0, 1 for what failed, 2 for what was asked wrongly."""
    # What is imported lives to the end; to look for garbage in it takes a tenth of a plan's time.
    gc.set_threshold(100_000)
    options = _parser().parse_args(arguments)
    try:
        return int(options.command(options))
    except E3Error as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="e3mega", description="Train reasoning models with the e3 recipe at any scale."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name in COMMANDS:
        module = import_module(f"e3mega.commands.{name}")
        command = commands.add_parser(name, help=module.HELP)
        module.add_arguments(command)
        command.set_defaults(command=module.run)
    return parser


if __name__ == "__main__":
    sys.exit(main())
