"""How an attempt ended, and what a person reads about it."""

import sys
from dataclasses import dataclass

from rich.console import Console

from e3mega.metrics import read_metrics
from e3mega.plan.paths import RunPaths
from e3mega.plan.planfile import Plan
from e3mega.run.folder import shown
from e3mega.run.views.summary import accuracy_table


@dataclass(frozen=True, slots=True)
class Ending:
    """How an attempt ended. Example: ``Ending("finished", 0, ())``."""

    reason: str
    exit_code: int
    context: tuple[str, ...] = ()
    """Lines that a person reads above the reason."""


def conclude(ending: Ending, plan: Plan, paths: RunPaths, console: Console) -> int:
    """Print how the run ended; the reason of a failure is the last line."""
    if ending.exit_code == 0:
        _present(plan, paths, console)
        return 0
    for line in ending.context:
        complain(line)
    complain(f"the run can be resumed: e3mega resume {shown(paths.run_dir)}")
    complain(f"e3mega: {plan.name} did not finish: {ending.reason}")
    return ending.exit_code


def complain(line: str) -> None:
    """Print a line where errors go."""
    print(line, file=sys.stderr)


def _present(plan: Plan, paths: RunPaths, console: Console) -> None:
    """Write the report, and print the table before and after and where the results lie."""
    # Drawing loads matplotlib, which no run needs before its end.
    from e3mega.report.page import write_report

    page = write_report([paths.run_dir])
    table = accuracy_table(list(read_metrics(paths.metrics("loop"))))
    if table is not None:
        console.print(table)
    _say(console, f"{plan.name} finished")
    _say(console, f"page:   {shown(page)}")
    _say(console, f"export: {shown(paths.export)}")


def _say(console: Console, line: str) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True)
