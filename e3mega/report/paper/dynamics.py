"""Training as the paper draws it: Fig. 4, 5, 9b, 13, 15 and the rewards of Fig. 16."""

# matplotlib's drawing functions take **kwargs that its stubs leave untyped.
# pyright: reportUnknownMemberType=false

from collections.abc import Sequence
from dataclasses import dataclass

from e3mega.report.canvas import Panel, new_axes, panel
from e3mega.report.drawing import Drawing
from e3mega.report.lines import Quantity, draw_lines, lines_table, mark_stages, rl_steps
from e3mega.report.paper.layer import draw_reference
from e3mega.report.paper.reference import (
    ASYMMETRY_ACCURACY,
    ASYMMETRY_LENGTH,
    HARD_REWARD,
    KL,
    SIGN_ACCURACY,
    SIGN_ATTEMPTS,
    SIGN_ENTROPY,
    SIGN_LENGTH,
    VERIFICATIONS,
    VERIFIED_ACCURACY,
    ReferenceLine,
)
from e3mega.report.runs import Cohort


@dataclass(frozen=True, slots=True)
class StepPanel:
    """One panel over optimizer steps. Example: ``StepPanel("KL", "nats", ("kl",), KL)``."""

    title: str
    y_label: str
    quantities: tuple[Quantity, ...]
    reference: tuple[ReferenceLine, ...]
    has_own_height: bool = False
    """Whether the paper's values are scaled to the panel: lengths and counts are."""


ACCURACY = Quantity("reward_mean", "")
BY_VERDICT = (("incorrect", "incorrect"), ("correct", "correct"))


def draw_asymmetry(cohorts: Sequence[Cohort], *, with_paper: bool) -> Drawing | None:
    """Accuracy at the training budget and length over steps, a line a run (Fig. 4)."""
    length = tuple(Quantity(f"length_{kind}", label) for kind, label in BY_VERDICT)
    return _draw(
        cohorts,
        (
            StepPanel("accuracy at the training budget", "reward", (ACCURACY,), ASYMMETRY_ACCURACY),
            StepPanel("length", "tokens of a completion", length, ASYMMETRY_LENGTH, True),
        ),
        with_paper=with_paper,
        min_cohorts=2,
    )


def draw_signs(cohorts: Sequence[Cohort], *, with_paper: bool) -> Drawing | None:
    """Runs with and without negative gradients (Fig. 5), incorrect solid and correct dashed."""
    attempts = tuple(Quantity(f"attempts_{kind}", label) for kind, label in BY_VERDICT)
    length = tuple(Quantity(f"length_{kind}", label) for kind, label in BY_VERDICT)
    return _draw(
        cohorts,
        (
            StepPanel("accuracy", "reward", (ACCURACY,), SIGN_ACCURACY),
            StepPanel("verifications", "attempts in a completion", attempts, SIGN_ATTEMPTS, True),
            StepPanel("length", "tokens of a completion", length, SIGN_LENGTH, True),
            StepPanel("entropy", "nats per token", (Quantity("entropy", ""),), SIGN_ENTROPY, True),
        ),
        with_paper=with_paper,
        min_cohorts=2,
    )


def draw_kl(cohorts: Sequence[Cohort], *, with_paper: bool) -> Drawing | None:
    """Divergence from the weights that the stage began with (Fig. 13)."""
    kl = StepPanel("divergence from the reference", "KL, nats per token", (Quantity("kl", ""),), KL)
    return _draw(cohorts, (kl,), with_paper=with_paper)


def draw_verified(cohorts: Sequence[Cohort], *, with_paper: bool) -> Drawing | None:
    """Verifications and accuracy of runs that differ in their base and signs (Fig. 15)."""
    attempts = (
        Quantity("attempts_incorrect", "incorrect"),
        Quantity("attempts_correct", "correct"),
    )
    return _draw(
        cohorts,
        (
            StepPanel("verifications", "attempts in a completion", attempts, VERIFICATIONS, True),
            StepPanel("accuracy", "reward", (ACCURACY,), VERIFIED_ACCURACY),
        ),
        with_paper=with_paper,
        min_cohorts=2,
    )


def draw_stage_rewards(cohorts: Sequence[Cohort], *, with_paper: bool) -> Drawing | None:
    """Reward across the stages of a curriculum (Fig. 9b and 16): a jump is extrapolation."""
    staged = [c for c in cohorts if len(c.runs[0].training_stages) > 1]
    panel_ = StepPanel("training reward across stages", "reward", (ACCURACY,), HARD_REWARD)
    return _draw(staged, (panel_,), with_paper=with_paper)


def _draw(
    cohorts: Sequence[Cohort],
    specs: Sequence[StepPanel],
    *,
    with_paper: bool,
    min_cohorts: int = 1,
) -> Drawing | None:
    if len(cohorts) < min_cohorts:
        return None
    panels: list[Panel] = []
    for spec in specs:
        axes = new_axes("optimizer step", spec.y_label)
        if not draw_lines(axes, cohorts, spec.quantities, events=rl_steps):
            continue
        axes.set_ylim(bottom=0.0)
        mark_stages(axes, cohorts)
        reference = spec.reference if with_paper else ()
        draw_reference(axes, reference, has_own_height=spec.has_own_height)
        panels.append(panel(spec.title, axes))
    if not panels:
        return None
    fields = tuple(dict.fromkeys(each.field for spec in specs for each in spec.quantities))
    return Drawing(tuple(panels), lines_table(cohorts, fields, events=rl_steps))
