"""Accuracy over test budgets as the paper draws it: Fig. 1b, 2, 8, 9a, 10 and 11, and the waits."""

# matplotlib's drawing functions take **kwargs that its stubs leave untyped.
# pyright: reportUnknownMemberType=false

import math
from collections.abc import Sequence

from matplotlib.axes import Axes

from e3mega.report.accuracy import (
    BASE_LABEL,
    Point,
    cohort_points,
    draw_points,
    end_label,
    share_height,
    slice_title,
    slices_of,
    training_budgets,
)
from e3mega.report.canvas import (
    BASE,
    DASHES,
    MARKERS,
    SERIES,
    Panel,
    budget_axis,
    legend,
    new_axes,
    panel,
)
from e3mega.report.drawing import Cell, Drawing, Table
from e3mega.report.paper.layer import draw_reference
from e3mega.report.paper.reference import (
    AIME_2025,
    CURRICULA,
    FIXED_BUDGETS,
    HMMT_2025,
    OPEN_MODELS,
    WAITS,
    ReferenceLine,
)
from e3mega.report.runs import Cohort, Event, Run, number, numbers, text


def draw_test_budgets(cohorts: Sequence[Cohort], *, with_paper: bool) -> Drawing | None:
    """The end of every run, solid up to its training budget and dashed beyond (Fig. 1b, 2, 10, 11).

    The table holds the area gained beyond the training budget (``evaluate.extrapolation``).
    """
    is_trained = any(cohort.runs[0].of("step") for cohort in cohorts)
    known = (AIME_2025 if is_trained else OPEN_MODELS) if with_paper else ()
    panels = _by_slice(cohorts, known, with_base=len(cohorts) == 1)
    if not panels:
        return None
    return Drawing(panels, _areas(cohorts), _area_notes(cohorts))


def draw_training_budgets(cohorts: Sequence[Cohort], *, with_paper: bool) -> Drawing | None:
    """Runs that differ in budget or data mix (Fig. 8a, b), and lengths of held-out completions."""
    if len(cohorts) < 2:
        return None
    panels = _by_slice(cohorts, FIXED_BUDGETS if with_paper else (), with_base=False)
    return Drawing(panels, _areas(cohorts)) if panels else None


def draw_curricula(cohorts: Sequence[Cohort], *, with_paper: bool) -> Drawing | None:
    """Runs with several RL stages against each other (Fig. 9a)."""
    staged = [c for c in cohorts if len(c.runs[0].training_stages) > 1]
    if len(cohorts) < 2 or not staged:
        return None
    panels = _by_slice(cohorts, CURRICULA if with_paper else (), with_base=False)
    return Drawing(panels, _areas(cohorts)) if panels else None


def draw_waits(cohorts: Sequence[Cohort], *, with_paper: bool) -> Drawing | None:
    """Accuracy over mean tokens when the model is told to wait (Fig. 10c)."""
    axes = new_axes("mean tokens of a completion", "accuracy")
    rows: list[tuple[Cell, ...]] = []
    for place, (cohort, run, event) in enumerate(_forced(cohorts)):
        tokens, accuracy = numbers(event, "mean_tokens"), numbers(event, "accuracy")
        errors = numbers(event, "stderr")
        points = [Point(*each) for each in zip(tokens, accuracy, errors, strict=True)]
        draw_points(
            axes,
            points,
            colour=SERIES[place % len(SERIES)],
            marker=MARKERS[place % len(MARKERS)],
            dashes=DASHES[0],
            label=f"{cohort.label}, {text(event, 'slice')}",
        )
        for waits, point in zip(numbers(event, "num_waits"), points, strict=True):
            head = (run.name, float(run.seed), text(event, "slice"), waits)
            rows.append((*head, point.budget, point.accuracy, point.stderr))
    if not rows:
        return None
    axes.set_ylim(bottom=0.0)
    draw_reference(axes, WAITS if with_paper else (), has_own_height=False)
    legend(axes)
    columns = ("run", "seed", "slice", "num_waits", "mean_tokens", "accuracy", "stderr")
    return Drawing((panel("told to wait 0, 1, 2, ... times", axes),), Table(columns, tuple(rows)))


def _forced(cohorts: Sequence[Cohort]) -> list[tuple[Cohort, Run, Event]]:
    return [
        (cohort, run, event)
        for cohort in cohorts
        for run in cohort.runs
        for event in run.of("forcing")
    ]


def draw_ends(
    cohorts: Sequence[Cohort], reference: Sequence[ReferenceLine], title: str
) -> Panel | None:
    """The end of every run over test budgets on all held-out problems, as one panel."""
    found = _by_slice(cohorts, reference, with_base=False, slices=slices_of(cohorts)[:1])
    return Panel(title, found[0].svg) if found else None


def _by_slice(
    cohorts: Sequence[Cohort],
    reference: Sequence[ReferenceLine],
    *,
    with_base: bool,
    slices: Sequence[str] | None = None,
) -> tuple[Panel, ...]:
    drawn: list[tuple[str, Axes]] = []
    for slice_name in slices_of(cohorts) if slices is None else slices:
        axes = new_axes("test budget, tokens", "accuracy")
        budgets: list[float] = []
        for row, cohort in enumerate(cohorts):
            budgets += _draw_cohort(axes, cohort, slice_name, row=row, with_base=with_base)
        if budgets:
            budget_axis(axes, budgets, training_budgets(cohorts))
            drawn.append((slice_name, axes))
    share_height([axes for _, axes in drawn]) if drawn else None
    for name, axes in drawn:
        draw_reference(axes, _of_benchmark(name, reference), has_own_height=False)
        legend(axes)
    return tuple(panel(slice_title(name), axes) for name, axes in drawn)


def _of_benchmark(slice_name: str, reference: Sequence[ReferenceLine]) -> Sequence[ReferenceLine]:
    """The lines of HMMT'25 where it is what was measured."""
    is_other = reference is AIME_2025 and "hmmt" in slice_name.lower()
    return HMMT_2025 if is_other else reference


def _draw_cohort(
    axes: Axes, cohort: Cohort, slice_name: str, *, row: int, with_base: bool
) -> list[float]:
    """Draw the cohort's last model; the budgets that were measured."""
    end, budgets = end_label(cohort.runs[0]), list[float]()
    labels = [(BASE_LABEL, BASE)] if with_base else []
    labels += [(end, SERIES[row % len(SERIES)])] if end is not None else []
    for label, colour in labels:
        points = cohort_points(cohort, label, slice_name)
        trained = cohort.runs[0].training_stages
        limit = trained[-1].budget_tokens if trained else math.inf
        name = "base" if label == BASE_LABEL else cohort.label
        inside = [point for point in points if not point.budget > limit]
        for part, dashes, words in (
            (inside, DASHES[0], name),
            ([*inside[-1:], *points[len(inside) :]], DASHES[1], name if not inside else ""),
        ):
            if part and (dashes == DASHES[0] or len(part) > 1):
                draw_points(
                    axes,
                    part,
                    colour=colour,
                    marker=MARKERS[row % len(MARKERS)],
                    dashes=dashes,
                    label=words,
                )
        budgets += [point.budget for point in points]
    return budgets


def _areas(cohorts: Sequence[Cohort]) -> Table:
    """Every evaluation's curve with the area gained beyond the training budget."""
    rows: list[tuple[Cell, ...]] = []
    for run in (run for cohort in cohorts for run in cohort.runs):
        for event in run.of("evaluation"):
            head = (run.name, float(run.seed), text(event, "label"), text(event, "slice"))
            area = (
                number(event, "training_budget"),
                number(event, "extrapolation"),
                number(event, "extrapolation_stderr"),
            )
            for budget, value, error in zip(
                numbers(event, "budgets"),
                numbers(event, "accuracy"),
                numbers(event, "stderr") or [math.nan] * len(numbers(event, "budgets")),
                strict=False,
            ):
                rows.append((*head, budget, value, error, *area))
    columns = ("run", "seed", "label", "slice", "budget_tokens", "accuracy", "stderr")
    return Table((*columns, "training_budget", "area_beyond", "area_beyond_stderr"), tuple(rows))


def _area_notes(cohorts: Sequence[Cohort]) -> tuple[str, ...]:
    notes: list[str] = []
    for run in (run for cohort in cohorts for run in cohort.runs):
        end = end_label(run)
        for event in run.of("evaluation"):
            area = number(event, "extrapolation")
            if text(event, "label") == end and math.isfinite(area):
                budgets = numbers(event, "budgets")
                notes.append(
                    f"{run.name}, seed {run.seed}, {slice_title(text(event, 'slice'))}: mean gain "
                    f"of {area:+.3f} ± {number(event, 'extrapolation_stderr'):.3f} over the "
                    f"doublings from {number(event, 'training_budget'):.0f} to "
                    f"{max(budgets):.0f} tokens."
                )
    return tuple(notes)
