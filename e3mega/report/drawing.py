"""What a figure of the report is: its panels, its numbers, and the curves of runs they show."""

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from e3mega.report.canvas import FloatArray, Panel
from e3mega.report.runs import Cohort, Event, Run, number

Cell = str | float
Series = tuple[FloatArray, FloatArray]
"""x ascending and y of the same length; NaN where y is unknown."""


@dataclass(frozen=True, slots=True)
class Table:
    """The numbers of a figure. Example: ``Table(("run", "step"), (("quickstart", 1.0),))``."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]

    def csv(self) -> str:
        """Comma-separated text with a header line; numbers to six significant digits."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows([_cell(cell) for cell in row] for row in self.rows)
        return out.getvalue()


@dataclass(frozen=True, slots=True)
class Drawing:
    """A figure with something in it."""

    panels: tuple[Panel, ...]
    table: Table
    notes: tuple[str, ...] = ()
    """Sentences below the panels, as plain text."""


@dataclass(frozen=True, slots=True)
class FigureRow:
    """One row of the table of figures: a figure is added by one function and one row."""

    name: str
    """Its anchor in the page and the name of its CSV file."""
    title: str
    how_to_read: str
    """One or two sentences, as plain text."""
    needs: str
    """The events it is drawn from; named where a run has none of them."""
    draw: Callable[[Sequence[Cohort]], Drawing | None]
    """None when the runs have no data for it."""


@dataclass(frozen=True, slots=True)
class Curve:
    """A cohort's line: the mean over its runs, the lowest and the highest of them."""

    x: FloatArray
    mean: FloatArray
    low: FloatArray
    high: FloatArray


def series_of(events: Sequence[Event], x_field: str, y_field: str) -> Series:
    """The field over another; points without an x are left out, y may be NaN."""
    points = [(number(event, x_field), number(event, y_field)) for event in events]
    points = sorted((point for point in points if not np.isnan(point[0])), key=lambda p: p[0])
    return (
        np.array([x for x, _ in points], dtype=np.float64),
        np.array([y for _, y in points], dtype=np.float64),
    )


def curve_of(cohort: Cohort, read: Callable[[Run], Series]) -> Curve | None:
    """The cohort's curve over all x that any run has; None if nothing is known."""
    columns: dict[float, list[float]] = {}
    for run in cohort.runs:
        for x, y in zip(*read(run), strict=True):
            if np.isfinite(y):
                columns.setdefault(float(x), []).append(float(y))
    if not columns:
        return None
    xs = sorted(columns)
    return Curve(
        np.array(xs),
        np.array([float(np.mean(columns[x])) for x in xs]),
        np.array([min(columns[x]) for x in xs]),
        np.array([max(columns[x]) for x in xs]),
    )


def _cell(cell: Cell) -> str:
    return cell if isinstance(cell, str) else f"{cell:.6g}"
