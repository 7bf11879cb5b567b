"""Figures of what a run decided or is judged by: budgets, recognition, pass@k."""

# matplotlib's drawing functions take **kwargs that its stubs leave untyped.
# pyright: reportUnknownMemberType=false

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes

from e3mega.curriculum.budget import BudgetReason
from e3mega.curriculum.options import RecognitionExit
from e3mega.report.accuracy import BASE_LABEL, draw_points, mean_points, points_of
from e3mega.report.canvas import (
    BASE,
    DASHES,
    MARKERS,
    QUIET,
    SERIES,
    Panel,
    budget_axis,
    legend,
    new_axes,
    panel,
)
from e3mega.report.drawing import Cell, Drawing, Table
from e3mega.report.lines import Quantity, draw_lines, lines_table
from e3mega.report.runs import Cohort, Event, Run, number, numbers, text

REASONS = {
    BudgetReason.DECIDED.value: "the whole interval of its ratio lies at or below kappa.",
    BudgetReason.UNDECIDED.value: (
        "the interval of a ratio straddles kappa, so the measurement does not settle the choice; "
        "the smaller budget was taken."
    ),
    BudgetReason.LARGEST.value: "no candidate qualifies, so the largest was taken.",
}


@dataclass(frozen=True, slots=True)
class Decided:
    """One run's decision and how it is drawn."""

    run: Run
    event: Event
    colour: str
    chosen_colour: str
    label: str


def draw_budget_decision(cohorts: Sequence[Cohort]) -> Drawing | None:
    """For each coupled stage: J over budgets, and the ratios against kappa, of every run."""
    by_stage: dict[str, list[Decided]] = {}
    is_single = sum(len(cohort.runs) for cohort in cohorts) == 1
    for row, cohort in enumerate(cohorts):
        colour = SERIES[row % len(SERIES)]
        for run in cohort.runs:
            for event in run.of("budget_decision"):
                label = "measured" if is_single else f"{run.name}, seed {run.seed}"
                decided = Decided(run, event, colour, SERIES[1] if is_single else colour, label)
                if points_of(event):
                    by_stage.setdefault(text(event, "stage"), []).append(decided)
    if not by_stage:
        return None
    panels: list[Panel] = []
    for stage, all_decided in by_stage.items():
        panels.append(_decision_curves(all_decided, f"{stage}: J at each budget"))
        panels.append(_decision_ratios(all_decided, f"{stage}: J(2B) / J(B)"))
    every = [decided for all_decided in by_stage.values() for decided in all_decided]
    notes = tuple(_decision_words(decided, is_single=is_single) for decided in every)
    rows = tuple(row for decided in every for row in _decision_rows(decided.run, decided.event))
    columns = ("run", "seed", "stage", "budget_tokens", "j", "ratio", "low", "high", "kappa")
    return Drawing(tuple(panels), Table((*columns, "is_chosen"), rows), notes)


def _decision_curves(all_decided: Sequence[Decided], title: str) -> Panel:
    axes = new_axes("budget B, tokens", "J(B), share of problems solved")
    budgets: list[float] = []
    for place, decided in enumerate(all_decided):
        points = points_of(decided.event)
        budgets.extend(point.budget for point in points)
        draw_points(
            axes,
            points,
            colour=decided.colour,
            marker=MARKERS[place % len(MARKERS)],
            dashes=DASHES[place % len(DASHES)],
            label=decided.label,
        )
        chosen = number(decided.event, "chosen")
        at_chosen = [point for point in points if point.budget == chosen]
        if at_chosen:
            axes.plot(
                [chosen],
                [at_chosen[0].accuracy],
                marker="o",
                markersize=13,
                markerfacecolor="none",
                markeredgecolor=decided.chosen_colour,
                markeredgewidth=1.6,
                linestyle="",
                label="chosen" if place == len(all_decided) - 1 else None,
            )
    budget_axis(axes, budgets)
    axes.set_ylim(bottom=0.0)
    legend(axes)
    return panel(title, axes)


def _decision_ratios(all_decided: Sequence[Decided], title: str) -> Panel:
    axes = new_axes("candidate B, tokens", "J(2B) / J(B)")
    for place, decided in enumerate(all_decided):
        event = decided.event
        rows = zip(
            numbers(event, "candidates"),
            numbers(event, "ratios"),
            numbers(event, "ratio_low"),
            numbers(event, "ratio_high"),
            strict=False,
        )
        # Side by side, so that the intervals of several runs stay apart.
        aside = 1.0 + 0.04 * (place - (len(all_decided) - 1) / 2)
        for candidate, ratio, low, high in rows:
            is_chosen = candidate == number(event, "chosen")
            colour = decided.chosen_colour if is_chosen else decided.colour
            axes.plot([candidate * aside] * 2, [low, high], color=colour, linewidth=2.4, alpha=0.5)
            axes.plot([candidate * aside], [ratio], color=colour, marker="s" if is_chosen else "o")
    kappas = {number(decided.event, "kappa") for decided in all_decided}
    for kappa in (kappa for kappa in kappas if math.isfinite(kappa)):
        label = f"kappa = {kappa:g}: below it, doubling no longer pays"
        axes.axhline(kappa, color=QUIET, linestyle=(0, (5, 2)), linewidth=1.1, label=label)
    budget_axis(axes, [x for each in all_decided for x in numbers(each.event, "candidates")])
    axes.margins(y=0.15)
    legend(axes)
    return panel(title, axes)


def _decision_words(decided: Decided, *, is_single: bool) -> str:
    event = decided.event
    reason, stage = text(event, "reason"), text(event, "stage")
    reason = REASONS.get(reason, reason)
    head = stage if is_single else f"{decided.label}, {stage}"
    words = f"{head}: {number(event, 'chosen'):.0f} tokens chosen"
    problems, samples = number(event, "num_problems"), number(event, "num_samples")
    if math.isfinite(problems) and math.isfinite(samples):
        words += f" from {problems:.0f} problems, {samples:.0f} generations each"
    return f"{words}. {reason[:1].upper()}{reason[1:]}" if reason else f"{words}."


def _decision_rows(run: Run, event: Event) -> list[tuple[Cell, ...]]:
    ratios = dict(
        zip(
            numbers(event, "candidates"),
            zip(
                numbers(event, "ratios"),
                numbers(event, "ratio_low"),
                numbers(event, "ratio_high"),
                strict=False,
            ),
            strict=False,
        )
    )
    nothing = (math.nan, math.nan, math.nan)
    return [
        (
            *(run.name, float(run.seed), text(event, "stage"), point.budget, point.accuracy),
            *ratios.get(point.budget, nothing),
            number(event, "kappa"),
            float(point.budget == number(event, "chosen")),
        )
        for point in points_of(event)
    ]


def draw_recognition(cohorts: Sequence[Cohort]) -> Drawing | None:
    """The warm-up's hits and false hits on held-out attempts, and its loss."""

    def recognition(run: Run) -> tuple[Event, ...]:
        return run.of("recognition")

    def supervised(run: Run) -> tuple[Event, ...]:
        return tuple(e for e in run.of("step") if text(e, "mode") == "supervised")

    panels: list[Panel] = []
    axes = new_axes("optimizer step", "share of attempts")
    rates = (Quantity("hit_frac", "hits called hits"), Quantity("false_hit_frac", "false hits"))
    if draw_lines(axes, cohorts, rates, events=recognition, window=1):
        axes.set_ylim(-0.03, 1.03)
        _mark_recognition_limits(axes, cohorts[0].runs[0])
        panels.append(panel("recognition of a hit, held-out attempts", axes))
    axes = new_axes("optimizer step", "loss, nats per token")
    if draw_lines(axes, cohorts, (Quantity("loss", ""),), events=supervised):
        axes.set_ylim(bottom=0.0)
        panels.append(panel("loss of the warm-up", axes))
    if not panels:
        return None
    fields = ("hit_frac", "false_hit_frac", "num_attempts")
    return Drawing(tuple(panels), lines_table(cohorts, fields, events=recognition))


def _mark_recognition_limits(axes: Axes, run: Run) -> None:
    exits = [stage.exit for stage in run.plan.stages] if run.plan is not None else []
    for rule in (rule for rule in exits if isinstance(rule, RecognitionExit)):
        for limit in (rule.min_hit_frac, rule.max_false_hit_frac):
            axes.axhline(limit, color=QUIET, linewidth=1.0, linestyle=(0, (5, 2)))


def draw_pass_at_k(cohorts: Sequence[Cohort]) -> Drawing | None:
    """pass@k of the base and the end."""
    axes = new_axes("k, samples of a problem", "pass@k")
    rows: list[tuple[Cell, ...]] = []
    for row, cohort in enumerate(cohorts):
        labels = dict.fromkeys(text(e, "label") for run in cohort.runs for e in run.of("pass_k"))
        for place, label in enumerate(labels):
            events = [
                e for run in cohort.runs for e in run.of("pass_k") if text(e, "label") == label
            ]
            points = mean_points([points_of(_over_k(event), "pass_at_k") for event in events])
            if not points:
                continue
            colour = SERIES[row % len(SERIES)]
            if len(cohorts) == 1:
                colour = BASE if label == BASE_LABEL else SERIES[0]
            draw_points(
                axes,
                points,
                colour=colour,
                marker=MARKERS[place % len(MARKERS)],
                dashes=DASHES[1] if label == BASE_LABEL else DASHES[0],
                label=label if len(cohorts) == 1 else f"{cohort.label}, {label}",
            )
            rows.extend((cohort.label, label, p.budget, p.accuracy, p.stderr) for p in points)
    if not rows:
        return None
    budget_axis(axes, [float(row[2]) for row in rows])
    legend(axes)
    first = next(event for c in cohorts for run in c.runs for event in run.of("pass_k"))
    note = (
        f"{number(first, 'num_problems'):.0f} held-out problems, "
        f"{number(first, 'num_samples'):.0f} generations each, "
        f"{number(first, 'budget_tokens'):.0f} tokens."
    )
    table = Table(("run", "label", "k", "pass_at_k", "stderr"), tuple(rows))
    return Drawing((panel("pass@k", axes),), table, (note,))


def _over_k(event: Event) -> Event:
    return {**event, "budgets": event.get("k")}
