"""Figures over the steps of the RL stages: reward, length, attempts, entropy, cuts."""

# matplotlib's drawing functions take **kwargs that its stubs leave untyped.
# pyright: reportUnknownMemberType=false

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from e3mega.report.accuracy import (
    accuracy_table,
    labels_of,
    mean_points,
    points_of,
    training_budgets,
)
from e3mega.report.canvas import (
    BASE,
    DASHES,
    MARKERS,
    PAPER,
    SERIES,
    Panel,
    budget_axis,
    legend,
    new_axes,
    panel,
)
from e3mega.report.drawing import Drawing
from e3mega.report.lines import (
    RL_STEP,
    Quantity,
    draw_lines,
    lines_table,
    mark_stages,
    rl_steps,
)
from e3mega.report.runs import Cohort, number, text


@dataclass(frozen=True, slots=True)
class StepPanel:
    """One panel over the steps. Example: ``StepPanel("loss", "loss", (Quantity("loss", ""),))``."""

    title: str
    y_label: str
    quantities: tuple[Quantity, ...]
    is_from_zero: bool = True


BY_VERDICT = (("correct", "correct"), ("incorrect", "incorrect"))


def draw_steps(cohorts: Sequence[Cohort], specs: Sequence[StepPanel]) -> Drawing | None:
    """The panels that have data, over RL steps."""
    panels: list[Panel] = []
    for spec in specs:
        axes = new_axes("RL step", spec.y_label)
        if not draw_lines(axes, cohorts, spec.quantities, events=rl_steps, x_field=RL_STEP):
            continue
        if spec.is_from_zero:
            axes.set_ylim(bottom=0.0)
        mark_stages(axes, cohorts)
        panels.append(panel(spec.title, axes))
    if not panels:
        return None
    fields = (RL_STEP, *(quantity.field for spec in specs for quantity in spec.quantities))
    return Drawing(tuple(panels), lines_table(cohorts, fields, events=rl_steps))


def draw_reward(cohorts: Sequence[Cohort]) -> Drawing | None:
    """Mean reward of the rollouts that each step trains on, and what the step did."""
    return draw_steps(
        cohorts,
        (
            StepPanel("mean reward", "reward", (Quantity("reward_mean", ""),)),
            StepPanel("gradient norm", "norm before clipping", (Quantity("grad_norm", ""),)),
            StepPanel("loss of RL steps", "loss", (Quantity("loss", ""),), is_from_zero=False),
        ),
    )


def draw_length(cohorts: Sequence[Cohort]) -> Drawing | None:
    """Length and attempts of correct and incorrect rollouts."""
    length = tuple(Quantity(f"length_{kind}", label) for kind, label in BY_VERDICT)
    attempts = tuple(Quantity(f"attempts_{kind}", label) for kind, label in BY_VERDICT)
    return draw_steps(
        cohorts,
        (
            StepPanel("length", "tokens of a completion", length),
            StepPanel("attempts", "attempts in a completion", attempts),
        ),
    )


def draw_entropy(cohorts: Sequence[Cohort]) -> Drawing | None:
    """Entropy of the policy at the tokens it trains on."""
    split = tuple(Quantity(f"entropy_{kind}", label) for kind, label in BY_VERDICT)
    return draw_steps(
        cohorts,
        (
            StepPanel("all tokens", "entropy, nats per token", (Quantity("entropy", ""),)),
            StepPanel("by verdict", "entropy, nats per token", split),
        ),
    )


def draw_truncation(cohorts: Sequence[Cohort]) -> Drawing | None:
    """Share of rollouts cut by their budget, in training and on held-out problems."""
    drawing = draw_steps(
        cohorts,
        (StepPanel("in training", "share truncated", (Quantity("truncated_frac", ""),)),),
    )
    held_out = _held_out_truncation(cohorts)
    if drawing is None and held_out is None:
        return None
    panels = (*(drawing.panels if drawing is not None else ()), *([held_out] if held_out else []))
    table = drawing.table if drawing is not None else accuracy_table(cohorts)
    return Drawing(panels, table, _ungraded_notes(cohorts))


def _ungraded_notes(cohorts: Sequence[Cohort]) -> tuple[str, ...]:
    """A sentence a run of which rollouts could not be graded, with the reasons."""
    notes: list[str] = []
    for run in (run for cohort in cohorts for run in cohort.runs):
        counts: Counter[str] = Counter()
        for event in rl_steps(run):
            failures = event.get("failures")
            if isinstance(failures, dict):
                counts.update({reason: int(number(failures, reason)) for reason in failures})
        if counts:
            reasons = ", ".join(f"{name.replace('_', ' ')} {n}" for name, n in counts.items())
            notes.append(
                f"{run.name}, seed {run.seed}: rollouts trained on that could not be graded and "
                f"earned nothing: {reasons}."
            )
    return tuple(notes)


def _held_out_truncation(cohorts: Sequence[Cohort]) -> Panel | None:
    axes = new_axes("test budget, tokens", "share truncated")
    labels = labels_of(cohorts)
    budgets: list[float] = []
    for row, cohort in enumerate(cohorts):
        for place, label in enumerate(labels):
            events = [
                event
                for run in cohort.runs
                for event in run.of("evaluation")
                if text(event, "label") == label and text(event, "slice") == "all"
            ]
            points = mean_points([points_of(event, "truncated", "") for event in events])
            if not points:
                continue
            budgets.extend(point.budget for point in points)
            colour = SERIES[row % len(SERIES)]
            if len(cohorts) == 1:
                colour = BASE if place == 0 else SERIES[(place - 1) % len(SERIES)]
            axes.plot(
                [point.budget for point in points],
                [point.accuracy for point in points],
                color=colour,
                marker=MARKERS[place % len(MARKERS)],
                markeredgecolor=PAPER,
                linestyle=DASHES[1] if place == 0 else DASHES[0],
                label=label if len(cohorts) == 1 else f"{cohort.label}, {label}",
            )
    if not budgets:
        return None
    budget_axis(axes, budgets, training_budgets(cohorts))
    axes.set_ylim(-0.03, 1.03)
    legend(axes)
    return panel("on held-out problems", axes)
