"""Runs a sweep on this machine: what its runs share once, then each of them.

Consumes specs and run folders, produces run folders and one page. Started again after a kill it
passes over the runs that are finished and resumes the one that is not.
"""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from e3mega.errors import E3Error
from e3mega.plan.paths import RunPaths, sweep_report, sweep_run_dir
from e3mega.plan.planfile import LEFT_STATUS, read_plan
from e3mega.plan.prefixes import SweepRun
from e3mega.run.attempts import read_attempts
from e3mega.run.folder import shown
from e3mega.run.local import resume_run, start_run
from e3mega.spec.render import resolved_text
from e3mega.spec.resolve import resolve_spec

_FIRST_SIGNAL_STATUS = 128
"""A run ended by a signal has a status from here on; then nobody wants the next run."""


def run_sweep(runs: Sequence[SweepRun], folder: Path, console: Console) -> int:
    """Bring every run to its end and write the page that compares them; the exit status.

    A run that fails does not keep the others from running, but those that begin behind it. Raises
    E3Error when a folder holds a run of another spec.
    """
    failed: dict[str, str] = {}
    for number, run in enumerate(runs, 1):
        name = run.plan.name
        if run.source in failed:
            failed[name] = f"begins behind {run.source}"
            continue
        if _is_finished(run):
            console.print(f"{number}/{len(runs)} {name}: finished before", highlight=False)
            continue
        console.print(f"{number}/{len(runs)} {name}: {', '.join(run.differs)}", highlight=False)
        status = _finish(run)
        if status == LEFT_STATUS or status > _FIRST_SIGNAL_STATUS:
            console.print("the sweep goes on when the same command is given again")
            return status
        if status:
            failed[name] = f"see {shown(RunPaths(sweep_run_dir(run.path)).exit_reason)}"
    _compare(runs, folder, console)
    for name, reason in failed.items():
        console.print(f"{name} is not finished: {reason}", highlight=False, soft_wrap=True)
    return 1 if failed else 0


def _is_finished(run: SweepRun) -> bool:
    paths = RunPaths(sweep_run_dir(run.path))
    if not paths.plan.exists():
        return False
    found = read_plan(paths.plan).run_fingerprint
    if found != run.plan.run_fingerprint:
        raise E3Error(
            f"{shown(paths.run_dir)} holds a run with fingerprint {found[:12]}, {run.path} has "
            f"{run.plan.run_fingerprint[:12]}; choose another folder with --out, or remove it"
        )
    attempts = read_attempts(paths.exit_reason)
    return bool(attempts) and attempts[-1].exit == 0


def _finish(run: SweepRun) -> int:
    """Start or resume a run and stay until it ends; its exit status."""
    folder = sweep_run_dir(run.path)
    if RunPaths(folder).plan.exists():
        return resume_run(folder)
    text = resolved_text(resolve_spec(run.path))
    source = sweep_run_dir(run.path.with_name(f"{run.source}.yaml")) if run.source else None
    return start_run(run.plan, text, folder, source=source)


def _compare(runs: Sequence[SweepRun], folder: Path, console: Console) -> None:
    """Print the table of the runs, and write it with their curves on one page."""
    # Drawing loads matplotlib, which no run needs before its end.
    from e3mega.report.beside import beside, cells_of, titles_of
    from e3mega.report.page import write_report
    from e3mega.report.runs import read_run

    folders = [sweep_run_dir(run.path) for run in runs if not run.is_prefix and _is_finished(run)]
    if not folders:
        return
    found = beside([read_run(each) for each in folders])
    table = Table(*titles_of(found), title="runs", box=None)
    for line in found.lines:
        table.add_row(*cells_of(line))
    console.print(table)
    console.print(
        f"{len(found.lines)} runs: {found.planned_hours:.2f} device-hours planned, "
        f"{found.spent_hours:.2f} spent",
        highlight=False,
    )
    page = write_report(folders, out=sweep_report(folder))
    console.print(f"page:   {shown(page)}", highlight=False, soft_wrap=True)
