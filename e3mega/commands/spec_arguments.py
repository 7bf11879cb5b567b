"""The arguments that name a spec, and the spec they name."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from e3mega.spec.resolve import Resolved


def add_spec(parser: argparse.ArgumentParser) -> None:
    """Add SPEC, --set and --set-file."""
    parser.add_argument(
        "spec", metavar="SPEC", help="a spec file, or the name of one in specs/runs"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="set one value over all files, e.g. layout.learner.tp=1; may be repeated",
    )
    parser.add_argument(
        "--set-file",
        action="append",
        default=[],
        type=Path,
        metavar="FILE",
        help="lay a file over the spec; may be repeated",
    )


def resolved_spec(options: argparse.Namespace) -> "Resolved":
    """The checked spec that the arguments name; raises SpecError with every problem."""
    from e3mega.spec.resolve import find_spec, resolve_spec

    return resolve_spec(find_spec(options.spec), sets=options.set, set_files=options.set_file)
