"""Evaluated models in one table: accuracy over budgets, area beyond the training budget."""

from collections.abc import Sequence

import numpy as np
from rich.table import Table

from e3mega.report.runs import Event, Run, number, numbers, text


def evaluation_table(runs: Sequence[Run]) -> Table:
    """A part for each slice with a row a model: accuracy and its standard error, in percent.

    ``beyond`` is the area gained beyond the training budget (``evaluate.extrapolation``), empty
    where no training budget is known. ``separate`` is the largest difference to the curve that
    was generated budget by budget, in standard errors of a difference. Five budgets fit into 80
    columns: only long names of models take a second line.
    """
    table = Table(title="accuracy on held-out problems, percent", box=None, padding=(0, 1, 0, 0))
    events = [(run, event) for run in runs for event in run.of("evaluation")]
    budgets = sorted({budget for _, event in events for budget in numbers(event, "budgets")})
    shown = [name for name in ("beyond", "separate") if any(_cell(name, *each) for each in events)]
    table.add_column("model", overflow="fold")
    for name in (*(f"{budget:.0f}" for budget in budgets), *shown):
        table.add_column(name, justify="right", no_wrap=True)
    for slice_name in dict.fromkeys(text(event, "slice") for _, event in events):
        table.add_row(slice_name, style="bold")
        for run, event in events:
            if text(event, "slice") == slice_name:
                cells = _cells(event, budgets)
                table.add_row(run.name, *cells, *(_cell(name, run, event) for name in shown))
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
    columns = (numbers(event, field) for field in ("budgets", "accuracy", "stderr"))
    values = {budget: _percent(value, error) for budget, value, error in zip(*columns, strict=True)}
    return [values.get(budget, "") for budget in budgets]


def _percent(value: float, error: float, sign: str = "") -> str:
    return f"{100 * value:{sign}.1f}±{100 * error:.1f}"


def _cell(name: str, run: Run, event: Event) -> str:
    return _beyond(event) if name == "beyond" else _separate(run, event)


def _beyond(event: Event) -> str:
    area = number(event, "extrapolation")
    return "" if np.isnan(area) else _percent(area, number(event, "extrapolation_stderr"), "+")


def _separate(run: Run, event: Event) -> str:
    for other in run.of("separate"):
        if text(other, "slice") == text(event, "slice"):
            return f"{difference_in_errors(event, other):.1f} se"
    return ""
