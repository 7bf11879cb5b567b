"""What attempts do, as the paper draws it: Fig. 3, 6, 8c, 12, 14 and the equations of Fig. 16."""

# matplotlib's drawing functions take **kwargs that its stubs leave untyped.
# pyright: reportUnknownMemberType=false

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from e3mega.report.canvas import DASHES, INK, MARKERS, SERIES, Panel, legend, new_axes, panel
from e3mega.report.drawing import Cell, Drawing, Table
from e3mega.report.paper.layer import draw_reference
from e3mega.report.paper.reference import (
    ATTEMPTS,
    EQUATIONS,
    KS,
    NEW_CONTEXT,
    PASS_BY_ATTEMPTS,
    PROGRESS,
    UNIQUE_ATTEMPTS,
)
from e3mega.report.paper.rollout_facts import RolloutFacts, facts_of
from e3mega.report.runs import Cohort, Event, numbers, text

CONTEXTS = {
    "context": (
        "with the attempt before",
        "log p(a_k | before) - log p(a_k | all but one)",
        NEW_CONTEXT,
    ),
    "progress": (
        "against the attempt before",
        "log p(a_k | before) - log p(a_(k-1) | before)",
        PROGRESS,
    ),
    "repeat": ("the same attempt again", "log p(a_(k-1) | a_1 .. a_(k-1))", ()),
}
"""By field of ``attempt_logprobs``: a panel's title, its axis, the paper's lines."""


def draw_pass_by_attempts(cohorts: Sequence[Cohort], *, with_paper: bool) -> Drawing | None:
    """pass@k against the number of chained attempts, a panel a model (Fig. 3, 12)."""
    panels: list[Panel] = []
    rows: list[tuple[Cell, ...]] = []
    for run in (run for cohort in cohorts for run in cohort.runs):
        for event in run.of("asymmetry"):
            attempts, ks = numbers(event, "attempts"), numbers(event, "k")
            values = _grid(event)
            if len(values) != len(attempts) or not ks:
                continue
            title = f"{run.name}, {text(event, 'label')}".rstrip(", ")
            panels.append(_heat_map(title, attempts, ks, values))
            for row, chained in zip(values, attempts, strict=True):
                for k, value in zip(ks, row, strict=False):
                    rows.append((run.name, text(event, "label"), chained, k, value))
    if not panels:
        return None
    if with_paper:
        panels.append(_heat_map("paper: Countdown's base", ATTEMPTS, KS, PASS_BY_ATTEMPTS))
    return Drawing(
        tuple(panels), Table(("run", "label", "attempts", "k", "pass_at_k"), tuple(rows))
    )


def _grid(event: Event) -> list[list[float]]:
    value = event.get("pass_at_k")
    rows = value if isinstance(value, list) else []
    return [numbers({"row": row}, "row") for row in rows]


def _heat_map(
    title: str,
    attempts: Sequence[float],
    ks: Sequence[float],
    values: Sequence[Sequence[float]],
) -> Panel:
    axes = new_axes("k, samples of a problem", "chained attempts")
    # One hue from pale to strong, and the number in every cell: readable in print and by all.
    for y, row in enumerate(values):
        for x, value in enumerate(row):
            shade = 0.0 if np.isnan(value) else min(1.0, value)
            axes.fill_between(
                [x - 0.48, x + 0.48], y - 0.46, y + 0.46, color=SERIES[0], alpha=shade
            )
            axes.text(x, y, f"{value:.2f}", ha="center", va="center", fontsize=9, color=INK)
    axes.set_xticks(range(len(ks)), [f"{k:.0f}" for k in ks])
    axes.set_yticks(range(len(attempts)), [f"{a:.0f}" for a in attempts])
    axes.grid(False)
    return panel(title, axes)


def draw_exploration(cohorts: Sequence[Cohort], *, with_paper: bool) -> Drawing | None:
    """Unique attempts of incorrect rollouts, and endings in repetition (Fig. 6)."""
    facts = _all_facts(cohorts)
    if not any(each.unique_attempts for each in facts.values()):
        return None
    unique = new_axes("unique attempts of a problem, incorrect rollouts", "share of problems")
    loops = new_axes("run", "share of rollouts")
    rows: list[tuple[Cell, ...]] = []
    largest = max(max(each.unique_attempts, default=1) for each in facts.values())
    edges = np.linspace(0, largest + 1, 13)
    for place, (label, each) in enumerate(facts.items()):
        shares, _ = np.histogram(each.unique_attempts, bins=edges)
        shares = shares / max(1, shares.sum())
        colour = SERIES[place % len(SERIES)]
        unique.stairs(
            shares, edges, color=colour, linestyle=DASHES[place % len(DASHES)], label=label
        )
        loops.bar(place, each.repetition_frac, color=colour, width=0.6)
        loops.annotate(
            f"{each.repetition_frac:.3f}", (place, each.repetition_frac), ha="center", va="bottom"
        )
        middles = (edges[:-1] + edges[1:]) / 2
        rows += [(label, float(x), float(y)) for x, y in zip(middles, shares, strict=True)]
        rows.append((label, -1.0, each.repetition_frac))
    loops.set_ylim(0.0, max(0.05, 1.2 * max(each.repetition_frac for each in facts.values())))
    loops.set_xticks(range(len(facts)), [label[:14] for label in facts])
    draw_reference(unique, UNIQUE_ATTEMPTS if with_paper else (), has_own_height=False)
    legend(unique)
    paper = " Paper: 0.04 with negative gradients, 0.17 without." if with_paper else ""
    notes = (
        f"Attempts are those of {', '.join(_counted(*each) for each in facts.items())}.",
        "Rows of the CSV with -1 unique attempts hold the share of rollouts that end in "
        f"repetition.{paper}",
    )
    panels = (panel("unique attempts", unique), panel("ending in repetition", loops))
    return Drawing(panels, Table(("run", "unique_attempts", "share"), tuple(rows)), notes)


def _counted(label: str, facts: RolloutFacts) -> str:
    if facts.num_measurements:
        return f"{label} in {facts.num_measurements} measurements of held-out problems"
    return f"{label} in training"


def draw_lengths(cohorts: Sequence[Cohort], *, with_paper: bool) -> Drawing | None:
    """Histograms of the length of held-out completions at the end (Fig. 8c, d)."""
    del with_paper  # the paper gives no numbers of its histograms
    facts = {label: each for label, each in _all_facts(cohorts).items() if each.held_out_lengths}
    if not facts:
        return None
    axes = new_axes("tokens of a held-out completion", "share of completions")
    edges = np.linspace(0, max(max(each.held_out_lengths) for each in facts.values()) + 1, 26)
    rows: list[tuple[Cell, ...]] = []
    for place, (label, each) in enumerate(facts.items()):
        shares, _ = np.histogram(each.held_out_lengths, bins=edges)
        shares = shares / max(1, shares.sum())
        axes.stairs(
            shares,
            edges,
            color=SERIES[place % len(SERIES)],
            linestyle=DASHES[place % len(DASHES)],
            label=label,
        )
        middles = (edges[:-1] + edges[1:]) / 2
        rows += [(label, float(x), float(y)) for x, y in zip(middles, shares, strict=True)]
    legend(axes)
    return Drawing((panel("lengths", axes),), Table(("run", "tokens", "share"), tuple(rows)))


def draw_equations(cohorts: Sequence[Cohort], *, with_paper: bool) -> Drawing | None:
    """Equations in an attempt over training (Fig. 16, right)."""
    axes = new_axes("RL step", "equations in an attempt")
    rows: list[tuple[Cell, ...]] = []
    trained = _trained(cohorts)
    facts = _all_facts(trained)
    for place, (cohort, each) in enumerate(zip(trained, facts.values(), strict=True)):
        if not each.equations:
            continue
        versions, values = zip(*each.equations, strict=True)
        first = cohort.runs[0].first_rl_version
        _line(axes, [version - first for version in versions], values, place, cohort.label)
        rows += [(cohort.label, float(version), value) for version, value in each.equations]
    if not rows:
        return None
    axes.set_ylim(0.0, 1.1 * max(value for each in facts.values() for _, value in each.equations))
    draw_reference(axes, EQUATIONS if with_paper else (), has_own_height=True)
    legend(axes)
    table = Table(("run", "version", "equations_per_attempt"), tuple(rows))
    return Drawing((panel("equations in an attempt", axes),), table)


def draw_attempt_logprobs(cohorts: Sequence[Cohort], *, with_paper: bool) -> Drawing | None:
    """What an attempt tells the next one, in nats per token (Fig. 14), a panel a quantity."""
    events = [(c, e) for c in cohorts for run in c.runs for e in run.of("attempt_logprobs")]
    rows: list[tuple[Cell, ...]] = []
    for cohort, event in events:
        columns = [numbers(event, field) for field in ("attempt", *CONTEXTS)]
        rows += [(_model(cohort, event), *values) for values in zip(*columns, strict=False)]
    if not rows:
        return None
    panels: list[Panel] = []
    for field, (title, y_label, reference) in CONTEXTS.items():
        axes = new_axes("attempt k", y_label)
        for place, (cohort, event) in enumerate(events):
            attempts, values = numbers(event, "attempt"), numbers(event, field)
            _line(axes, attempts, values, place, _model(cohort, event))
        draw_reference(axes, reference if with_paper else (), has_own_height=False)
        legend(axes)
        panels.append(panel(title, axes))
    return Drawing(tuple(panels), Table(("model", "attempt", *CONTEXTS), tuple(rows)))


def _model(cohort: Cohort, event: Event) -> str:
    return ", ".join(part for part in (cohort.label, text(event, "label")) if part)


def _line(axes: Axes, x: Sequence[float], y: Sequence[float], place: int, label: str) -> None:
    axes.plot(
        list(x),
        list(y),
        color=SERIES[place % len(SERIES)],
        marker=MARKERS[place % len(MARKERS)],
        linestyle=DASHES[place % len(DASHES)],
        label=label,
    )


def _trained(cohorts: Sequence[Cohort]) -> list[Cohort]:
    """Those that are runs: a model that was only measured has no rollouts."""
    return [cohort for cohort in cohorts if not cohort.runs[0].is_only_measured]


def _all_facts(cohorts: Sequence[Cohort]) -> dict[str, RolloutFacts]:
    """What the recorded rollouts of each run say, of a cohort the first's."""
    return {cohort.label: facts_of(cohort.runs[0]) for cohort in _trained(cohorts)}
