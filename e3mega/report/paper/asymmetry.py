"""What an asymmetry between checking and guessing gives: Fig. 4 and 15.

Runs are put beside those of the same task whose model checks its attempts as theirs does, as the
paper puts Countdown, Multiplication, and Multiplication with verification.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from e3mega.report.canvas import Panel
from e3mega.report.drawing import Drawing
from e3mega.report.lines import rl_steps
from e3mega.report.paper.budgets import draw_ends
from e3mega.report.paper.reference import (
    MULTIPLIED,
    MULTIPLIED_WITH_CHECKS,
    TRIED,
    VERIFICATIONS,
    VERIFIED_ACCURACY,
    Asymmetry,
)
from e3mega.report.paper.step_panels import (
    MEAN_ATTEMPTS,
    MEAN_LENGTH,
    StepPanel,
    accuracy_panel,
    step_panel,
    steps_drawing,
)
from e3mega.report.runs import Cohort, Run, number

_PAPER = {
    ("countdown", True): TRIED,
    ("countdown-text", True): TRIED,
    ("multiplication", False): MULTIPLIED,
    ("multiplication", True): MULTIPLIED_WITH_CHECKS,
}
"""The paper's lines by the task's kind and whether the model checks its attempts."""


@dataclass(frozen=True, slots=True)
class Start:
    """What runs have in common that may share a panel. Example: ``Start("countdown", True)``."""

    task: str
    """The task's kind; empty where the run has no plan."""
    has_checks: bool
    """Whether a completion of an RL stage called one of its attempts wrong."""

    @property
    def title(self) -> str:
        """How panels of the runs are called."""
        checks = "with checks" if self.has_checks else "without checks"
        return f"{self.task} {checks}".strip()


def start_of(run: Run) -> Start:
    """The run's task, and what its rollouts say of its model."""
    shares = [number(event, "stop_after_failed_check") for event in rl_steps(run)]
    task = run.plan.stages[0].task.kind if run.plan is not None else ""
    return Start(task, any(map(math.isfinite, shares)))


def draw_asymmetry(cohorts: Sequence[Cohort], *, with_paper: bool) -> Drawing | None:
    """Accuracy at the training budget, length, and accuracy beyond it, a line a run (Fig. 4)."""
    # Models that were only measured have no steps, which alone tell whether they check.
    cohorts = [cohort for cohort in cohorts if rl_steps(cohort.runs[0])]
    if len(cohorts) < 2:
        return None
    by_start: dict[Start, list[Cohort]] = {}
    for cohort in cohorts:
        by_start.setdefault(start_of(cohort.runs[0]), []).append(cohort)
    panels: list[Panel | None] = []
    for start, members in by_start.items():
        known = _PAPER.get((start.task, start.has_checks)) if with_paper else None
        paper = Asymmetry((), (), ()) if known is None else known
        title = f"{start.title}: length"
        length = StepPanel(title, "tokens of a completion", MEAN_LENGTH, paper.length, True)
        panels += [
            accuracy_panel(members, paper.accuracy, title=f"{start.title}: accuracy"),
            step_panel(members, length, with_paper=with_paper),
            draw_ends(members, paper.beyond, f"{start.title}: extrapolation"),
        ]
    return steps_drawing(cohorts, panels)


def draw_verified(cohorts: Sequence[Cohort], *, with_paper: bool) -> Drawing | None:
    """Verifications and accuracy of runs that differ in their base and signs (Fig. 15)."""
    if len(cohorts) < 2:
        return None
    title, y_label = "verifications", "attempts in a completion"
    attempts = StepPanel(title, y_label, MEAN_ATTEMPTS, VERIFICATIONS, True)
    panels = [
        step_panel(cohorts, attempts, with_paper=with_paper),
        accuracy_panel(cohorts, VERIFIED_ACCURACY if with_paper else (), title="accuracy"),
    ]
    return steps_drawing(cohorts, panels)
