"""``e3mega report``: writes the page of runs."""

import argparse
from pathlib import Path

HELP = "write the page of one run or of several beside"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command is told."""
    parser.add_argument("run_dirs", type=Path, nargs="+", metavar="RUN", help="folders of runs")
    parser.add_argument(
        "--paper", action="store_true", help="lay the paper's own points behind its figures"
    )


def run(options: argparse.Namespace) -> int:
    """Run the command; its exit status."""
    from e3mega.report.page import write_report

    print(write_report(options.run_dirs, with_paper=options.paper))
    return 0
