"""Lines of several quantities and several runs over the optimizer steps."""

# matplotlib's drawing functions take **kwargs that its stubs leave untyped.
# pyright: reportUnknownMemberType=false

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes

from e3mega.report.canvas import DASHES, MARKERS, QUIET, SERIES, legend, smooth
from e3mega.report.drawing import Cell, Curve, Series, Table, curve_of, series_of
from e3mega.report.runs import Cohort, Event, Run, number, text

RL_STEP = "rl_step"
"""Optimizer steps since the first RL stage began: warm-ups of different lengths do not shift it."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """One field drawn as a line. Example: ``Quantity("length_correct", "correct")``."""

    field: str
    label: str
    """Empty where a panel holds a single quantity."""


def rl_steps(run: Run) -> tuple[Event, ...]:
    """Step events of RL stages, with their number since the first of them as ``rl_step``."""
    first = run.first_rl_version
    return tuple(
        {**event, RL_STEP: number(event, "step") - first}
        for event in run.of("step")
        if text(event, "mode") == "rl"
    )


def all_steps(run: Run) -> tuple[Event, ...]:
    """Step events of every stage."""
    return run.of("step")


def draw_lines(
    axes: Axes,
    cohorts: Sequence[Cohort],
    quantities: Sequence[Quantity],
    *,
    events: Callable[[Run], tuple[Event, ...]],
    x_field: str = "step",
    window: int = 9,
) -> bool:
    """Draw every quantity of every cohort; False if none of them has a single number.

    A single cohort gives each quantity a colour; several cohorts have the colours and the
    quantities the dashes. Raw values are faint, their centred mean over ``window`` points is
    strong, and the lowest and highest of several seeds is a band.
    """
    is_drawn = False
    for row, cohort in enumerate(cohorts):
        for column, quantity in enumerate(quantities):

            def read(run: Run, field: str = quantity.field) -> Series:
                return series_of(events(run), x_field, field)

            curve = curve_of(cohort, read)
            if curve is None:
                continue
            is_drawn = True
            colour = SERIES[(column if len(cohorts) == 1 else row) % len(SERIES)]
            label = _label(cohorts, cohort, quantity)
            for part in _split(curve, _starts(cohort.runs[0], x_field)):
                _draw_part(axes, part, colour, column, window, label)
                label = ""
    if is_drawn:
        legend(axes)
    return is_drawn


def mark_stages(axes: Axes, cohorts: Sequence[Cohort]) -> None:
    """Name the RL stages of the first run where they begin, on axes over RL steps."""
    low, high = axes.get_xlim()
    bottom, top = axes.get_ylim()
    # Room for the names above the lines.
    axes.set_ylim(top=top + 0.08 * (top - bottom))
    for place, stage in enumerate(cohorts[0].runs[0].training_stages):
        at = stage.start_version - cohorts[0].runs[0].first_rl_version + 0.5
        if np.isnan(at) or at > high:
            continue
        if place > 0:
            axes.axvline(at, color=QUIET, linewidth=0.9, linestyle=(0, (1, 2)), zorder=1)
        axes.annotate(
            stage.name,
            xy=(max(at, low), 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(3, -2),
            textcoords="offset points",
            va="top",
            fontsize=8,
            color=QUIET,
        )
    axes.set_xlim(low, high)


def lines_table(
    cohorts: Sequence[Cohort],
    fields: Sequence[str],
    *,
    events: Callable[[Run], tuple[Event, ...]],
    x_field: str = "step",
) -> Table:
    """Every run's raw numbers of the fields, one row an event."""
    rows: list[tuple[Cell, ...]] = []
    for cohort in cohorts:
        for run in cohort.runs:
            for event in events(run):
                head = (run.name, float(run.seed), text(event, "stage"), number(event, x_field))
                rows.append((*head, *(number(event, field) for field in fields)))
    return Table(("run", "seed", "stage", x_field, *fields), tuple(rows))


def _label(cohorts: Sequence[Cohort], cohort: Cohort, quantity: Quantity) -> str:
    parts = [cohort.label] if len(cohorts) > 1 else []
    return ", ".join([*parts, quantity.label] if quantity.label else parts)


def _starts(run: Run, x_field: str) -> tuple[float, ...]:
    """Where stages begin on an axis over steps; none on others."""
    first = {"step": 0.0, RL_STEP: run.first_rl_version}.get(x_field)
    if first is None:
        return ()
    return tuple(stage.start_version - first + 0.5 for stage in run.stages)


def _split(curve: Curve, starts: Sequence[float]) -> list[Curve]:
    """The curve cut where stages start: what is smoothed must not mix two of them."""
    cuts = sorted({int(np.searchsorted(curve.x, start)) for start in starts if start == start})
    cuts = [0, *(cut for cut in cuts if 0 < cut < len(curve.x)), len(curve.x)]
    return [
        Curve(*(values[low:high] for values in (curve.x, curve.mean, curve.low, curve.high)))
        for low, high in pairwise(cuts)
    ]


def _draw_part(axes: Axes, curve: Curve, colour: str, column: int, window: int, label: str) -> None:
    width = max(1, min(window, len(curve.x) // 4))
    if bool(np.any(curve.high > curve.low)):
        low, high = smooth(curve.low, width), smooth(curve.high, width)
        axes.fill_between(curve.x, low, high, color=colour, alpha=0.16, linewidth=0)
    elif width > 1:
        axes.plot(curve.x, curve.mean, color=colour, alpha=0.3, linewidth=0.8)
    axes.plot(
        curve.x,
        smooth(curve.mean, width),
        color=colour,
        linestyle=DASHES[column % len(DASHES)],
        # A single point has no dashes: its marker tells what it is.
        marker=MARKERS[column % len(MARKERS)] if len(curve.x) < 12 else "",
        label=label or None,
    )
