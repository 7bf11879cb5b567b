"""Panels over RL steps that several of the paper's figures share, and the numbers behind them.

Accuracy is that of held-out problems where runs were measured while they trained
(``evaluation.every_steps``), else the reward of the rollouts that were trained on.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from e3mega.report.accuracy import end_label, evaluation, points_of, slice_title
from e3mega.report.canvas import Panel, new_axes, panel
from e3mega.report.drawing import Drawing
from e3mega.report.lines import (
    RL_STEP,
    Quantity,
    draw_lines,
    lines_table,
    mark_stages,
    rl_steps,
)
from e3mega.report.paper.held_out import (
    FIELDS,
    draw_held_out,
    held_out_steps,
    is_followed,
    slices_followed,
)
from e3mega.report.paper.layer import draw_reference
from e3mega.report.paper.reference import ReferenceLine
from e3mega.report.runs import Cohort, Event, Run, number

_MEAN_LENGTH = "length_mean"


@dataclass(frozen=True, slots=True)
class StepPanel:
    """One panel over RL steps. Example: ``StepPanel("KL", "nats", ("kl",), KL)``."""

    title: str
    y_label: str
    quantities: tuple[Quantity, ...]
    reference: tuple[ReferenceLine, ...]
    has_own_height: bool = False
    """Whether the paper's values are scaled to the panel: lengths and counts are."""


REWARD = Quantity("reward_mean", "")
BY_VERDICT = (("incorrect", "incorrect"), ("correct", "correct"))
LENGTH = tuple(Quantity(f"length_{kind}", label) for kind, label in BY_VERDICT)
MEAN_LENGTH = (Quantity(_MEAN_LENGTH, ""),)
ATTEMPTS = tuple(Quantity(f"attempts_{kind}", label) for kind, label in BY_VERDICT)
MEAN_ATTEMPTS = (Quantity("attempts_mean", ""),)
ENTROPY = (Quantity("entropy", ""),)


def steps_with_length(run: Run) -> tuple[Event, ...]:
    """Step events of RL stages with the mean tokens of their completions."""
    return tuple(
        {**event, _MEAN_LENGTH: number(event, "tokens_generated") / number(event, "num_rollouts")}
        for event in rl_steps(run)
    )


def accuracy_panel(
    cohorts: Sequence[Cohort],
    reference: Sequence[ReferenceLine],
    *,
    has_beyond: bool = False,
    title: str = "",
) -> Panel | None:
    """Held-out accuracy, or the training reward where nothing was measured within a stage."""
    if is_followed(cohorts):
        first = slices_followed(cohorts)[0]
        return held_out_panel(cohorts, first, reference, has_beyond=has_beyond, title=title)
    name = f"{title}, training reward" if title else "training reward"
    spec = StepPanel(name, "reward", (REWARD,), tuple(reference))
    return step_panel(cohorts, spec, with_paper=bool(reference))


def held_out_panel(
    cohorts: Sequence[Cohort],
    slice_name: str,
    reference: Sequence[ReferenceLine],
    *,
    has_beyond: bool = False,
    title: str = "",
) -> Panel | None:
    """Accuracy on a slice of held-out problems; None if no run was measured on it."""
    axes = new_axes("RL step", "accuracy")
    if not draw_held_out(axes, cohorts, slice_name, has_beyond=has_beyond):
        return None
    mark_stages(axes, cohorts)
    draw_reference(axes, reference, has_own_height=False)
    return panel(title or slice_title(slice_name), axes)


def step_panel(cohorts: Sequence[Cohort], spec: StepPanel, *, with_paper: bool) -> Panel | None:
    """The spec's quantities of every run; None if no run has one of them."""
    axes = new_axes("RL step", spec.y_label)
    if not draw_lines(axes, cohorts, spec.quantities, events=steps_with_length, x_field=RL_STEP):
        return None
    axes.set_ylim(bottom=0.0)
    mark_stages(axes, cohorts)
    reference = spec.reference if with_paper else ()
    draw_reference(axes, reference, has_own_height=spec.has_own_height)
    return panel(spec.title, axes)


_QUANTITIES = (REWARD, *LENGTH, *MEAN_LENGTH, *ATTEMPTS, *MEAN_ATTEMPTS, *ENTROPY)
_END_FIELDS = ("test_budget", "accuracy_at_test_budget")
_COLUMNS = (*(each.field for each in _QUANTITIES), *FIELDS, *_END_FIELDS)


def steps_drawing(
    cohorts: Sequence[Cohort],
    panels: Sequence[Panel | None],
    fields: tuple[str, ...] = _COLUMNS,
) -> Drawing | None:
    """The panels that hold something; rows of steps, of measurements and of the ends' curves."""
    drawn = tuple(each for each in panels if each is not None)
    table = lines_table(cohorts, (RL_STEP, *fields), events=_rows)
    return Drawing(drawn, table) if drawn else None


def _rows(run: Run) -> tuple[Event, ...]:
    measured = [
        e for name in slices_followed((Cohort("", (run,)),)) for e in held_out_steps(run, name)
    ]
    return (*steps_with_length(run), *measured, *_ends(run))


def _ends(run: Run) -> list[Event]:
    """The curve of the last weights over test budgets."""
    label = end_label(run)
    event = None if label is None else evaluation(run, label, "all")
    if event is None:
        return []
    version = number(event, "version")
    head: Event = {"stage": event.get("stage"), "step": version}
    head[RL_STEP] = version - run.first_rl_version
    return [
        {**head, "test_budget": point.budget, "accuracy_at_test_budget": point.accuracy}
        for point in points_of(event)
    ]
