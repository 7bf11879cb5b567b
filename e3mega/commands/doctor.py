"""``e3mega doctor``: checks a machine, or every node of an allocation, and says what to fix."""

import argparse
from pathlib import Path

HELP = "check this machine, or the nodes of an allocation, and say what to fix"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command is told."""
    parser.add_argument(
        "folder",
        type=Path,
        nargs="?",
        metavar="FOLDER",
        help="where runs shall lie (default: runs)",
    )
    parser.add_argument("--interface", help="network interface between the nodes")
    parser.add_argument(
        "--meet",
        metavar="NAME",
        help="meet the other tasks of the scheduler's step in FOLDER under this name",
    )
    parser.add_argument("--tasks", type=int, default=1, metavar="N", help="tasks that meet")


def run(options: argparse.Namespace) -> int:
    """Run the command; its exit status: 1 when something must be fixed."""
    from e3mega.plan.paths import default_run_root
    from e3mega.run.doctor import check_machine, check_meeting

    folder: Path = options.folder or default_run_root()
    findings = list(check_machine(folder, options.interface))
    if options.meet is not None:
        findings += check_meeting(folder, options.meet, options.tasks, options.interface)
    for finding in findings:
        print(finding.line())
    bad = sum(not finding.is_good for finding in findings)
    print("all is well" if not bad else f"{bad} of {len(findings)} checks need a fix")
    return 1 if bad else 0
