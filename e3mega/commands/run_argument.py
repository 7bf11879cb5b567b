"""The argument that names a run: its folder, or its name below the folder of runs."""

import argparse
from pathlib import Path


def add_run(parser: argparse.ArgumentParser) -> None:
    """Add RUN."""
    parser.add_argument(
        "run_dir", type=Path, metavar="RUN", help="the folder of the run, or its name in runs/"
    )


def run_dir_of(options: argparse.Namespace) -> Path:
    """The folder that the argument names."""
    from e3mega.plan.paths import default_run_dir

    given: Path = options.run_dir
    named = default_run_dir(str(given))
    return named if not given.exists() and named.exists() else given
