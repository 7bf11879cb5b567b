"""Training as the paper draws it: Fig. 4, 5, 9b, 13, 15 and the rewards of Fig. 16.

Accuracy is that of held-out problems where runs were measured while they trained
(``evaluation.every_steps``), else the reward of the rollouts that were trained on.
"""

# matplotlib's drawing functions take **kwargs that its stubs leave untyped.
# pyright: reportUnknownMemberType=false

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
from e3mega.report.paper.budgets import draw_ends
from e3mega.report.paper.held_out import (
    FIELDS,
    draw_held_out,
    held_out_steps,
    is_followed,
    slices_followed,
)
from e3mega.report.paper.layer import draw_reference
from e3mega.report.paper.reference import (
    ASYMMETRY_ACCURACY,
    ASYMMETRY_BEYOND,
    ASYMMETRY_LENGTH,
    HARD_REWARD,
    KL,
    SIGN_ACCURACY,
    SIGN_ACCURACY_BEYOND,
    SIGN_ATTEMPTS,
    SIGN_ENTROPY,
    SIGN_LENGTH,
    STAGE_ACCURACY,
    VERIFICATIONS,
    VERIFIED_ACCURACY,
    ReferenceLine,
)
from e3mega.report.runs import Cohort, Event, Run, number


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
ATTEMPTS = tuple(Quantity(f"attempts_{kind}", label) for kind, label in BY_VERDICT)
ENTROPY = (Quantity("entropy", ""),)


def draw_asymmetry(cohorts: Sequence[Cohort], *, with_paper: bool) -> Drawing | None:
    """Accuracy at the training budget, length, and accuracy beyond it, a line a run (Fig. 4)."""
    if len(cohorts) < 2:
        return None
    accuracy = _accuracy(cohorts, ASYMMETRY_ACCURACY if with_paper else (), has_beyond=False)
    length = StepPanel("length", "tokens of a completion", LENGTH, ASYMMETRY_LENGTH, True)
    ends = draw_ends(cohorts, ASYMMETRY_BEYOND if with_paper else (), "extrapolation")
    return _drawing(cohorts, [*accuracy, _panel(cohorts, length, with_paper=with_paper), ends])


def draw_signs(cohorts: Sequence[Cohort], *, with_paper: bool) -> Drawing | None:
    """Runs with and without negative gradients (Fig. 5), incorrect solid and correct dashed."""
    if len(cohorts) < 2:
        return None
    reference = (*SIGN_ACCURACY, *(SIGN_ACCURACY_BEYOND if is_followed(cohorts) else ()))
    specs = (
        StepPanel("verifications", "attempts in a completion", ATTEMPTS, SIGN_ATTEMPTS, True),
        StepPanel("length", "tokens of a completion", LENGTH, SIGN_LENGTH, True),
        StepPanel("entropy", "nats per token", ENTROPY, SIGN_ENTROPY, True),
    )
    accuracy = _accuracy(cohorts, reference if with_paper else (), has_beyond=True)
    others = [_panel(cohorts, spec, with_paper=with_paper) for spec in specs]
    return _drawing(cohorts, [*accuracy, *others])


def draw_kl(cohorts: Sequence[Cohort], *, with_paper: bool) -> Drawing | None:
    """Divergence from the weights that the stage began with (Fig. 13), of runs with a KL term."""
    cohorts = [each for each in cohorts if _has_kl(each.runs[0])]
    if not cohorts:
        return None
    kl = StepPanel("divergence from the reference", "KL, nats per token", (Quantity("kl", ""),), KL)
    return _drawing(cohorts, [_panel(cohorts, kl, with_paper=with_paper)], fields=("kl",))


def _has_kl(run: Run) -> bool:
    """A run without the term records a divergence of 0 in every step."""
    return any(abs(number(event, "kl")) > 0 for event in rl_steps(run))


def draw_verified(cohorts: Sequence[Cohort], *, with_paper: bool) -> Drawing | None:
    """Verifications and accuracy of runs that differ in their base and signs (Fig. 15)."""
    if len(cohorts) < 2:
        return None
    attempts = StepPanel("verifications", "attempts in a completion", ATTEMPTS, VERIFICATIONS, True)
    accuracy = _accuracy(cohorts, VERIFIED_ACCURACY if with_paper else (), has_beyond=False)
    return _drawing(cohorts, [_panel(cohorts, attempts, with_paper=with_paper), *accuracy])


def draw_stage_rewards(cohorts: Sequence[Cohort], *, with_paper: bool) -> Drawing | None:
    """Accuracy and reward across the stages of a curriculum (Fig. 9b and 16)."""
    staged = [c for c in cohorts if len(c.runs[0].training_stages) > 1]
    if not staged:
        return None
    panels: list[Panel | None] = []
    for slice_name in slices_followed(staged):
        reference = STAGE_ACCURACY if slice_name == "all" else ()
        reference = HARD_REWARD if slice_name == "hard" else reference
        panels.append(_held_out(staged, slice_name, reference if with_paper else ()))
    spec = StepPanel("training reward across stages", "reward", (REWARD,), HARD_REWARD)
    return _drawing(staged, [*panels, _panel(staged, spec, with_paper=with_paper)])


def _accuracy(
    cohorts: Sequence[Cohort], reference: Sequence[ReferenceLine], *, has_beyond: bool
) -> list[Panel | None]:
    """Held-out accuracy, or the training reward where nothing was measured within a stage."""
    if is_followed(cohorts):
        first = slices_followed(cohorts)[0]
        return [_held_out(cohorts, first, reference, has_beyond=has_beyond)]
    spec = StepPanel("training reward", "reward", (REWARD,), tuple(reference))
    return [_panel(cohorts, spec, with_paper=bool(reference))]


def _held_out(
    cohorts: Sequence[Cohort],
    slice_name: str,
    reference: Sequence[ReferenceLine],
    *,
    has_beyond: bool = False,
) -> Panel | None:
    axes = new_axes("RL step", "accuracy")
    if not draw_held_out(axes, cohorts, slice_name, has_beyond=has_beyond):
        return None
    mark_stages(axes, cohorts)
    draw_reference(axes, reference, has_own_height=False)
    return panel(slice_title(slice_name), axes)


def _panel(cohorts: Sequence[Cohort], spec: StepPanel, *, with_paper: bool) -> Panel | None:
    axes = new_axes("RL step", spec.y_label)
    if not draw_lines(axes, cohorts, spec.quantities, events=rl_steps, x_field=RL_STEP):
        return None
    axes.set_ylim(bottom=0.0)
    mark_stages(axes, cohorts)
    reference = spec.reference if with_paper else ()
    draw_reference(axes, reference, has_own_height=spec.has_own_height)
    return panel(spec.title, axes)


_STEP_FIELDS = tuple(each.field for each in (REWARD, *LENGTH, *ATTEMPTS, *ENTROPY))
_END_FIELDS = ("test_budget", "accuracy_at_test_budget")


def _drawing(
    cohorts: Sequence[Cohort],
    panels: Sequence[Panel | None],
    fields: tuple[str, ...] = (*_STEP_FIELDS, *FIELDS, *_END_FIELDS),
) -> Drawing | None:
    """The panels that hold something; rows of steps, of measurements and of the ends' curves."""
    drawn = tuple(each for each in panels if each is not None)
    table = lines_table(cohorts, (RL_STEP, *fields), events=_rows)
    return Drawing(drawn, table) if drawn else None


def _rows(run: Run) -> tuple[Event, ...]:
    measured = [
        e for name in slices_followed((Cohort("", (run,)),)) for e in held_out_steps(run, name)
    ]
    return (*rl_steps(run), *measured, *_ends(run))


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
