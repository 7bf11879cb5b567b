"""The arguments that name a run: its folder, or its name below the folder of runs."""

import argparse
from pathlib import Path


def add_run(parser: argparse.ArgumentParser) -> None:
    """Add RUN."""
    parser.add_argument(
        "run_dir", type=Path, metavar="RUN", help="the folder of the run, or its name in runs/"
    )


def add_source(parser: argparse.ArgumentParser) -> None:
    """Add --from."""
    parser.add_argument(
        "--from",
        dest="source",
        type=Path,
        metavar="RUN",
        help="begin behind the stages that this run shares with RUN, from its checkpoint",
    )


def run_dir_of(options: argparse.Namespace) -> Path:
    """The folder that RUN names."""
    return _folder(options.run_dir)


def source_of(options: argparse.Namespace) -> Path | None:
    """The folder that --from names, if it was given."""
    return None if options.source is None else _folder(options.source)


def _folder(given: Path) -> Path:
    from e3mega.plan.paths import default_run_dir

    named = default_run_dir(str(given))
    return named if not given.exists() and named.exists() else given
