"""Evaluated models in one table: accuracy over budgets, area beyond the training budget."""

from collections.abc import Sequence

import numpy as np
from rich.table import Table

from e3mega.report.runs import Event, Run, number, numbers, text


def evaluation_table(runs: Sequence[Run]) -> Table:
    """A row a model and slice: accuracy with its standard error at each budget.

    ``beyond`` is the area gained beyond the training budget (``evaluate.extrapolation``), empty
    where no training budget is known. ``separate`` is the largest difference to the curve that
    was generated budget by budget, in standard errors of a difference.
    """
    table = Table(title="accuracy on held-out problems", box=None, padding=(0, 2, 0, 0))
    events = [(run, event) for run in runs for event in run.of("evaluation")]
    budgets = sorted({budget for _, event in events for budget in numbers(event, "budgets")})
    table.add_column("problems")
    table.add_column("model")
    for budget in budgets:
        table.add_column(f"{budget:.0f}", justify="right")
    for name in ("beyond", "separate"):
        table.add_column(name, justify="right")
    for slice_name in dict.fromkeys(text(event, "slice") for _, event in events):
        rows = [(run, event) for run, event in events if text(event, "slice") == slice_name]
        for place, (run, event) in enumerate(rows):
            cells = _cells(event, budgets)
            title = slice_name if place == 0 else ""
            table.add_row(title, run.name, *cells, _beyond(event), _separate(run, event))
    return table


def difference_in_errors(event: Event, other: Event) -> float:
    """The largest difference of two curves over their budgets in standard errors of it.

    NaN when a budget has no error. The curves come from different generations of the same
    problems; treating them as independent overstates the error a little.
    """
    first, second = (np.array(numbers(each, "accuracy")) for each in (event, other))
    errors = [np.array(numbers(each, "stderr")) for each in (event, other)]
    spread = np.hypot(*errors)
    gaps = np.abs(first - second)
    return float(np.max(np.where(gaps == 0, 0.0, gaps / np.where(spread > 0, spread, np.nan))))


def _cells(event: Event, budgets: Sequence[float]) -> list[str]:
    values = {
        budget: f"{accuracy:.3f}±{f'{error:.3f}'.removeprefix('0')}"
        for budget, accuracy, error in zip(
            numbers(event, "budgets"),
            numbers(event, "accuracy"),
            numbers(event, "stderr"),
            strict=True,
        )
    }
    return [values.get(budget, "") for budget in budgets]


def _beyond(event: Event) -> str:
    area = number(event, "extrapolation")
    if np.isnan(area):
        return ""
    return f"{area:+.3f}±{f'{number(event, "extrapolation_stderr"):.3f}'.removeprefix('0')}"


def _separate(run: Run, event: Event) -> str:
    for other in run.of("separate"):
        if text(other, "slice") == text(event, "slice"):
            return f"{difference_in_errors(event, other):.1f} se"
    return ""
