"""Accuracy over test budgets: the numbers of the evaluations, and their figure."""

# matplotlib's drawing functions take **kwargs that its stubs leave untyped.
# pyright: reportUnknownMemberType=false

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes

from e3mega.report.canvas import (
    BASE,
    DASHES,
    MARKERS,
    PAPER,
    SERIES,
    budget_axis,
    legend,
    new_axes,
    panel,
)
from e3mega.report.drawing import Cell, Drawing, Table
from e3mega.report.runs import Cohort, Event, Run, number, numbers, text

BASE_LABEL = "base"
SLICES = ("all", "easy", "hard")


@dataclass(frozen=True, slots=True)
class Point:
    """An accuracy and its standard error, as fractions. Example: ``Point(64.0, .2, .018)``."""

    budget: float
    accuracy: float
    stderr: float


def evaluation(run: Run, label: str, slice_name: str) -> Event | None:
    """The run's evaluation event of a label and slice."""
    for event in run.of("evaluation"):
        if text(event, "label") == label and text(event, "slice") == slice_name:
            return event
    return None


def labels_of(cohorts: Sequence[Cohort]) -> tuple[str, ...]:
    """Evaluation labels in the order in which they were measured."""
    seen: dict[str, None] = {}
    for cohort in cohorts:
        for run in cohort.runs:
            seen.update((text(event, "label"), None) for event in run.of("evaluation"))
    return tuple(seen)


def end_label(run: Run) -> str | None:
    """The label measured last; None before the first evaluation after the base."""
    labels = [label for label in labels_of((Cohort("", (run,)),)) if label != BASE_LABEL]
    return labels[-1] if labels else None


def slices_of(cohorts: Sequence[Cohort]) -> tuple[str, ...]:
    """Slices that were measured: the whole first, then easy and hard, then others."""
    seen = {
        text(event, "slice")
        for cohort in cohorts
        for run in cohort.runs
        for event in run.of("evaluation")
    }
    known = [name for name in SLICES if name in seen]
    return (*known, *sorted(seen - set(known)))


def points_of(event: Event, values: str = "accuracy", errors: str = "stderr") -> list[Point]:
    """The event's curve over budgets; a missing standard error is NaN."""
    budgets, measured = numbers(event, "budgets"), numbers(event, values)
    spread = numbers(event, errors)
    spread += [math.nan] * (len(budgets) - len(spread))
    return [
        Point(budget, value, error)
        for budget, value, error in zip(budgets, measured, spread, strict=False)
        if math.isfinite(budget) and math.isfinite(value)
    ]


def mean_points(curves: Sequence[Sequence[Point]]) -> list[Point]:
    """Mean over runs at each budget that all have.

    The standard error of a single run is its own; that of several is the sample standard
    deviation between the runs over the root of their number.
    """
    filled = [curve for curve in curves if curve]
    if not filled:
        return []
    if len(filled) == 1:
        return list(filled[0])
    by_budget: dict[float, list[float]] = {}
    for point in (point for curve in filled for point in curve):
        by_budget.setdefault(point.budget, []).append(point.accuracy)
    result: list[Point] = []
    for budget, values in sorted(by_budget.items()):
        if len(values) < len(filled):
            continue
        error = float(np.std(values, ddof=1)) / math.sqrt(len(values))
        result.append(Point(budget, float(np.mean(values)), error))
    return result


def cohort_points(cohort: Cohort, label: str, slice_name: str) -> list[Point]:
    """The cohort's accuracy curve of a label and slice; empty if it was not measured."""
    events = [evaluation(run, label, slice_name) for run in cohort.runs]
    return mean_points([points_of(event) for event in events if event is not None])


def draw_points(
    axes: Axes, points: Sequence[Point], *, colour: str, marker: str, dashes: object, label: str
) -> None:
    """One line with error bars of one standard error; a missing one is left out."""
    errors = [0.0 if math.isnan(point.stderr) else point.stderr for point in points]
    axes.errorbar(
        [point.budget for point in points],
        [point.accuracy for point in points],
        yerr=errors,
        color=colour,
        marker=marker,
        markeredgecolor=PAPER,
        markeredgewidth=0.7,
        linestyle=dashes,
        capsize=2.5,
        elinewidth=1.1,
        label=label,
    )


def draw_accuracy_axes(axes: Axes, cohorts: Sequence[Cohort], slice_name: str) -> bool:
    """Draw one slice's panel without its legend; False if nothing was measured on it."""
    labels = labels_of(cohorts)
    budgets: list[float] = []
    for row, cohort in enumerate(cohorts):
        end = end_label(cohort.runs[0])
        shown = labels if len(cohorts) == 1 else tuple(x for x in labels if x in (BASE_LABEL, end))
        for label in shown:
            points = cohort_points(cohort, label, slice_name)
            if not points:
                continue
            budgets.extend(point.budget for point in points)
            place = labels.index(label)
            colour = SERIES[row % len(SERIES)]
            if len(cohorts) == 1:
                colour = BASE if label == BASE_LABEL else SERIES[(place - 1) % len(SERIES)]
            stage = f"after {label}" if label != BASE_LABEL else label
            draw_points(
                axes,
                points,
                colour=colour,
                marker=MARKERS[place % len(MARKERS)],
                dashes=DASHES[1] if label == BASE_LABEL else DASHES[0],
                label=stage if len(cohorts) == 1 else f"{cohort.label}, {stage}",
            )
    if not budgets:
        return False
    budget_axis(axes, budgets, training_budgets(cohorts))
    return True


def training_budgets(cohorts: Sequence[Cohort]) -> list[tuple[str, float]]:
    """Names and budgets of the RL stages of all runs."""
    return [
        (stage.name, stage.budget_tokens)
        for cohort in cohorts
        for run in cohort.runs
        for stage in run.training_stages
    ]


def draw_accuracy(cohorts: Sequence[Cohort]) -> Drawing | None:
    """Accuracy over test budgets, one panel a slice."""
    drawn: list[tuple[str, Axes]] = []
    for slice_name in slices_of(cohorts):
        axes = new_axes("test budget, tokens", "accuracy")
        if draw_accuracy_axes(axes, cohorts, slice_name):
            legend(axes)
            drawn.append((slice_name, axes))
    if not drawn:
        return None
    share_height([axes for _, axes in drawn])
    panels = tuple(panel(slice_title(slice_name), axes) for slice_name, axes in drawn)
    return Drawing(panels, accuracy_table(cohorts))


def share_height(panels: Sequence[Axes]) -> None:
    """Give all panels the same height, from 0: slices are compared by eye."""
    top = max(axes.get_ylim()[1] for axes in panels)
    for axes in panels:
        axes.set_ylim(0.0, top)


def slice_title(slice_name: str) -> str:
    """How a slice is called above its panel."""
    return "all held-out problems" if slice_name == "all" else f"{slice_name} held-out problems"


def accuracy_table(cohorts: Sequence[Cohort]) -> Table:
    """Every evaluation of every run, one row a budget."""
    rows: list[tuple[Cell, ...]] = []
    for cohort in cohorts:
        for run in cohort.runs:
            for event in run.of("evaluation"):
                truncated = {p.budget: p.accuracy for p in points_of(event, "truncated", "")}
                for point in points_of(event):
                    rows.append(
                        (
                            run.name,
                            float(run.seed),
                            text(event, "label"),
                            text(event, "slice"),
                            point.budget,
                            point.accuracy,
                            point.stderr,
                            truncated.get(point.budget, math.nan),
                            number(event, "num_problems"),
                        )
                    )
    return Table(
        (
            *("run", "seed", "label", "slice", "budget_tokens", "accuracy", "stderr"),
            *("truncated_frac", "num_problems"),
        ),
        tuple(rows),
    )
