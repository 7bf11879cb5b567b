"""Accuracy on held-out problems over the steps of a run, at the training budget and at twice it."""

# matplotlib's drawing functions take **kwargs that its stubs leave untyped.
# pyright: reportUnknownMemberType=false

import math
from collections.abc import Sequence

from matplotlib.axes import Axes

from e3mega.report.accuracy import points_of, slices_of
from e3mega.report.canvas import DASHES, SERIES, legend
from e3mega.report.drawing import Series, curve_of, series_of
from e3mega.report.lines import RL_STEP
from e3mega.report.runs import Cohort, Event, Run, Stage, number, text

AT_BUDGET, BEYOND = "held_out_accuracy", "held_out_accuracy_2x"
FIELDS = ("held_out_slice", "budget_tokens", AT_BUDGET, BEYOND)


def is_followed(cohorts: Sequence[Cohort]) -> bool:
    """Whether a run was measured on held-out problems while its stages went on."""
    return any(run.of("evaluation_within") for cohort in cohorts for run in cohort.runs)


def held_out_steps(run: Run, slice_name: str) -> tuple[Event, ...]:
    """One event a measurement of a training stage, in the order of steps.

    A stage begins with the measurement of the weights that it starts from, read off at its own
    budget: where stages meet there are two events, one step apart, that differ by budget alone.
    """
    found: list[Event] = []
    stages = run.training_stages
    for place, stage in enumerate(stages):
        end = stages[place + 1].start_version if place + 1 < len(stages) else math.inf
        for event in _measured(run, slice_name):
            version = number(event, "version")
            if not stage.start_version <= version <= end:
                continue
            is_start = version == stage.start_version
            budget = math.nan if is_start else number(event, "training_budget")
            step = version + is_start * (place > 0)
            at = _at(event, stage, budget)
            found.append({**at, "step": step, RL_STEP: step - run.first_rl_version})
    return tuple(found)


def _measured(run: Run, slice_name: str) -> list[Event]:
    """Every measurement of the slice, each version once, by version."""
    by_version = {
        number(event, "version"): event
        for event in (*run.of("evaluation_within"), *run.of("evaluation"))
        if text(event, "slice") == slice_name
    }
    return [by_version[version] for version in sorted(by_version)]


def _at(event: Event, stage: Stage, budget: float) -> Event:
    tokens = stage.budget_tokens if math.isnan(budget) else budget
    values = {point.budget: point for point in points_of(event)}
    here, there = values.get(tokens), values.get(2 * tokens)
    return {
        "stage": stage.name,
        "held_out_slice": text(event, "slice"),
        "budget_tokens": tokens,
        AT_BUDGET: here.accuracy if here is not None else None,
        BEYOND: there.accuracy if there is not None else None,
    }


def draw_held_out(
    axes: Axes, cohorts: Sequence[Cohort], slice_name: str, *, has_beyond: bool
) -> bool:
    """Each cohort's accuracy, a line a stage: solid at its budget, dashed at twice it."""
    is_drawn = False
    shown = ((AT_BUDGET, "at the budget"), (BEYOND, "at twice it"))[: 1 + has_beyond]
    for row, cohort in enumerate(cohorts):
        for column, (field, words) in enumerate(shown):
            parts = [cohort.label] if len(cohorts) > 1 else []
            label = ", ".join([*parts, *([words] if has_beyond else [])])
            for stage in cohort.runs[0].training_stages:
                what = (stage.name, slice_name, field)
                if _draw_stage(axes, cohort, what, column, SERIES[row % len(SERIES)], label):
                    is_drawn, label = True, ""
    if is_drawn:
        axes.set_ylim(bottom=0.0)
        legend(axes)
    return is_drawn


def _draw_stage(
    axes: Axes,
    cohort: Cohort,
    what: tuple[str, str, str],
    column: int,
    colour: str,
    label: str,
) -> bool:
    """One stage's line with the band of its seeds; whether there was anything to draw."""
    stage, slice_name, field = what

    def read(run: Run) -> Series:
        events = [e for e in held_out_steps(run, slice_name) if text(e, "stage") == stage]
        return series_of(events, RL_STEP, field)

    curve = curve_of(cohort, read)
    if curve is None:
        return False
    axes.plot(
        curve.x,
        curve.mean,
        color=colour,
        linestyle=DASHES[column],
        marker="os"[column],
        label=label or None,
    )
    if len(cohort.runs) > 1:
        axes.fill_between(curve.x, curve.low, curve.high, color=colour, alpha=0.16, linewidth=0)
    return True


def slices_followed(cohorts: Sequence[Cohort]) -> tuple[str, ...]:
    """Slices that were measured while stages went on."""
    known = {
        text(event, "slice")
        for cohort in cohorts
        for run in cohort.runs
        for event in run.of("evaluation_within")
    }
    return tuple(name for name in slices_of(cohorts) if name in known)
