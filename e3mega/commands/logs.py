"""``e3mega logs``: prints the end of a run's logs."""

import argparse

from e3mega.commands.run_argument import add_run, run_dir_of

HELP = "print the end of a run's logs"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command is told."""
    add_run(parser)
    parser.add_argument("job", nargs="?", help="one job, e.g. learner; all when left out")
    parser.add_argument("--lines", type=int, default=20, metavar="N", help="lines of each log")


def run(options: argparse.Namespace) -> int:
    """Run the command; its exit status."""
    from e3mega.errors import E3Error
    from e3mega.plan.paths import RunPaths
    from e3mega.run.causes import log_tail
    from e3mega.run.folder import shown

    folder = RunPaths(run_dir_of(options).resolve()).log("loop").parent
    logs = sorted(folder.glob("*.log"))
    if options.job is not None:
        logs = [log for log in logs if log.stem == options.job]
        if not logs:
            known = ", ".join(sorted(log.stem for log in folder.glob("*.log"))) or "none"
            raise E3Error(f"there is no log of {options.job} in {shown(folder)}; there are {known}")
    for log in logs:
        print(f"== {shown(log)}")
        for line in log_tail(log, 0)[-options.lines :]:
            print(line)
    return 0
