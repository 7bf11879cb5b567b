"""Prints a sweep: what differs between its runs, what they share, what they cost together."""

from collections.abc import Sequence

from rich.console import Console

from e3mega.plan.prefixes import SweepRun
from e3mega.plan.sizes_text import seconds_text
from e3mega.plan.sweep import Axis
from e3mega.plan.tables import table


def print_sweep(axes: Sequence[Axis], runs: Sequence[SweepRun], console: Console) -> None:
    """One line a run; then the cost of all, with and without what they share."""
    found = table(
        "runs", "run ", *(axis.short_name for axis in axes), "begins behind", "time ", "hours "
    )
    numbers = {run.plan.name: str(index) for index, run in enumerate(runs, 1)}
    for run in runs:
        names = [stage.name for stage in run.plan.stages[: run.num_shared_stages]]
        shares = f"{', '.join(names)} of {numbers[run.source]}" if names else "-"
        found.add_row(
            numbers[run.plan.name],
            *run.differs,
            shares,
            seconds_text(run.own_seconds),
            f"{run.own_device_hours:,.1f}",
        )
    console.print(found)
    shared = sum(run.own_device_hours for run in runs)
    whole = [run for run in runs if not run.is_prefix]
    alone = sum(run.plan.estimates.device_hours for run in whole)
    also = f", and {len(runs) - len(whole)} of what they share" if len(runs) > len(whole) else ""
    console.print(
        f"\n{len(whole)} runs{also}: {shared:,.1f} device-hours with shared stages run once, "
        f"{alone:,.1f} without",
        highlight=False,
    )
