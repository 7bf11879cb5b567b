"""Figures of what a run decided or is judged by: budgets, recognition, pass@k."""

# matplotlib's drawing functions take **kwargs that its stubs leave untyped.
# pyright: reportUnknownMemberType=false

import math
from collections.abc import Sequence

from matplotlib.axes import Axes

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


def draw_budget_decision(cohorts: Sequence[Cohort]) -> Drawing | None:
    """For each coupled stage of each run: J over budgets, and the ratios against kappa."""
    panels: list[Panel] = []
    notes: list[str] = []
    rows: list[tuple[Cell, ...]] = []
    runs = [run for cohort in cohorts for run in cohort.runs]
    for run in runs:
        for event in run.of("budget_decision"):
            stage = text(event, "stage")
            head = stage if len(runs) == 1 else f"{run.name}, seed {run.seed}, {stage}"
            points = points_of(event)
            if not points:
                continue
            panels.append(_decision_curve(event, f"{head}: J at each budget"))
            panels.append(_decision_ratios(event, f"{head}: J(2B) / J(B)"))
            notes.append(_decision_words(event, head))
            rows.extend(_decision_rows(run, event))
    if not panels:
        return None
    columns = ("run", "seed", "stage", "budget_tokens", "j", "ratio", "low", "high", "kappa")
    return Drawing(tuple(panels), Table((*columns, "is_chosen"), tuple(rows)), tuple(notes))


def _decision_curve(event: Event, title: str) -> Panel:
    points = points_of(event)
    axes = new_axes("budget B, tokens", "J(B), share of problems solved")
    chosen = number(event, "chosen")
    draw_points(
        axes, points, colour=SERIES[0], marker=MARKERS[0], dashes=DASHES[0], label="measured"
    )
    at_chosen = [point for point in points if point.budget == chosen]
    if at_chosen:
        axes.plot(
            [chosen],
            [at_chosen[0].accuracy],
            marker="o",
            markersize=13,
            markerfacecolor="none",
            markeredgecolor=SERIES[1],
            markeredgewidth=1.8,
            linestyle="",
            label=f"chosen: {chosen:.0f} tokens",
        )
    budget_axis(axes, [point.budget for point in points])
    axes.set_ylim(bottom=0.0)
    legend(axes)
    return panel(title, axes)


def _decision_ratios(event: Event, title: str) -> Panel:
    axes = new_axes("candidate B, tokens", "J(2B) / J(B)")
    kappa = number(event, "kappa")
    candidates = numbers(event, "candidates")
    rows = zip(
        candidates,
        numbers(event, "ratios"),
        numbers(event, "ratio_low"),
        numbers(event, "ratio_high"),
        strict=False,
    )
    for candidate, ratio, low, high in rows:
        if not math.isfinite(ratio):
            continue
        is_chosen = candidate == number(event, "chosen")
        colour = SERIES[1] if is_chosen else SERIES[0]
        if math.isfinite(low) and math.isfinite(high):
            axes.plot([candidate] * 2, [low, high], color=colour, linewidth=2.4, alpha=0.55)
        axes.plot([candidate], [ratio], color=colour, marker="s" if is_chosen else "o")
    if math.isfinite(kappa):
        label = f"kappa = {kappa:g}: below it, doubling no longer pays"
        axes.axhline(kappa, color=QUIET, linestyle=(0, (5, 2)), linewidth=1.1, label=label)
    budget_axis(axes, candidates)
    axes.margins(y=0.15)
    legend(axes, columns=1)
    return panel(title, axes)


def _decision_words(event: Event, head: str) -> str:
    reason = text(event, "reason")
    words = f"{head}: {number(event, 'chosen'):.0f} tokens chosen"
    problems, samples = number(event, "num_problems"), number(event, "num_samples")
    if math.isfinite(problems) and math.isfinite(samples):
        words += f" from {problems:.0f} problems with {samples:.0f} generations in all"
        words = words if samples > problems else words.replace(" generations in all", " each")
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
    legend(axes, columns=3 if len(cohorts) == 1 else 2)
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
