"""Training as the paper draws it: Fig. 5, 9b, 13 and the rewards of Fig. 16."""

from collections.abc import Sequence

from e3mega.report.canvas import Panel
from e3mega.report.drawing import Drawing
from e3mega.report.lines import Quantity, rl_steps
from e3mega.report.paper.held_out import is_followed, slices_followed
from e3mega.report.paper.reference import (
    HARD_REWARD,
    KL,
    SIGN_ACCURACY,
    SIGN_ACCURACY_BEYOND,
    SIGN_ATTEMPTS,
    SIGN_ENTROPY,
    SIGN_LENGTH,
    STAGE_ACCURACY,
)
from e3mega.report.paper.step_panels import (
    ATTEMPTS,
    ENTROPY,
    LENGTH,
    REWARD,
    StepPanel,
    accuracy_panel,
    held_out_panel,
    step_panel,
    steps_drawing,
)
from e3mega.report.runs import Cohort, Run, number


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
    accuracy = accuracy_panel(cohorts, reference if with_paper else (), has_beyond=True)
    others = [step_panel(cohorts, spec, with_paper=with_paper) for spec in specs]
    return steps_drawing(cohorts, [accuracy, *others])


def draw_kl(cohorts: Sequence[Cohort], *, with_paper: bool) -> Drawing | None:
    """Divergence from the weights that the stage began with (Fig. 13), of runs with a KL term."""
    cohorts = [each for each in cohorts if _has_kl(each.runs[0])]
    if not cohorts:
        return None
    kl = StepPanel("divergence from the reference", "KL, nats per token", (Quantity("kl", ""),), KL)
    panels = [step_panel(cohorts, kl, with_paper=with_paper)]
    return steps_drawing(cohorts, panels, fields=("kl",))


def _has_kl(run: Run) -> bool:
    """A run without the term records a divergence of 0 in every step."""
    return any(abs(number(event, "kl")) > 0 for event in rl_steps(run))


def draw_stage_rewards(cohorts: Sequence[Cohort], *, with_paper: bool) -> Drawing | None:
    """Accuracy and reward across the stages of a curriculum (Fig. 9b and 16)."""
    staged = [c for c in cohorts if len(c.runs[0].training_stages) > 1]
    if not staged:
        return None
    panels: list[Panel | None] = []
    for slice_name in slices_followed(staged):
        reference = STAGE_ACCURACY if slice_name == "all" else ()
        reference = HARD_REWARD if slice_name == "hard" else reference
        panels.append(held_out_panel(staged, slice_name, reference if with_paper else ()))
    spec = StepPanel("training reward across stages", "reward", (REWARD,), HARD_REWARD)
    return steps_drawing(staged, [*panels, step_panel(staged, spec, with_paper=with_paper)])
