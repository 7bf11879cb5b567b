"""Figures of what positive and negative samples do to the policy."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from e3mega.report.drawing import Drawing
from e3mega.report.lines import Quantity, rl_steps
from e3mega.report.runs import Cohort, Event, Run, number, text
from e3mega.report.training import BY_VERDICT, StepPanel, draw_steps

_BY_SIGN = (("positive", "positive samples"), ("negative", "negative samples"))
_SHARE_AT_END = 0.2
"""Share of a stage's steps that its first and its last numbers are means of."""


def draw_signs(cohorts: Sequence[Cohort]) -> Drawing | None:
    """Pull of each sign, and the traces of exploration that negative gradients leave."""
    pull = tuple(Quantity(f"logit_grad_norm_{sign}", label) for sign, label in _BY_SIGN)
    share = tuple(Quantity(f"tokens_{sign}_frac", label) for sign, label in _BY_SIGN)
    clipped = tuple(Quantity(f"clip_{sign}_frac", label) for sign, label in _BY_SIGN)
    unique = tuple(Quantity(f"unique_attempts_{kind}", label) for kind, label in BY_VERDICT)
    stop = (Quantity("stop_after_failed_check", ""),)
    cycles = (Quantity("repetition_frac", ""),)
    drawing = draw_steps(
        cohorts,
        (
            StepPanel("pull of each sign", "norm of the gradient at the logits", pull),
            StepPanel("stopping", "failed checks that end a trace", stop),
            StepPanel("different attempts", "different attempts in a completion", unique),
            StepPanel("repetition", "share that ends in a cycle", cycles),
            StepPanel("tokens of each sign", "share of tokens", share),
            StepPanel("clipping", "share of tokens clipped", clipped),
        ),
    )
    if drawing is None:
        return None
    runs = [run for cohort in cohorts for run in cohort.runs]
    return replace(drawing, notes=tuple(note for run in runs for note in _notes(run)))


def _notes(run: Run) -> Iterator[str]:
    """A sentence a stage: how hard the negative samples pull, and what became of exploration."""
    steps = rl_steps(run)
    for stage in dict.fromkeys(text(step, "stage") for step in steps):
        own = [step for step in steps if text(step, "stage") == stage]
        by_sign = [
            _mean([number(step, f"logit_grad_norm_{sign}") for step in own]) for sign, _ in _BY_SIGN
        ]
        ratio = by_sign[1] / by_sign[0] if by_sign[0] > 0 else float("nan")
        pull = f"{ratio:.2g} times as hard as positive ones" if ratio == ratio else "alone"
        yield (
            f"{run.name} (seed {run.seed}), {stage}: negative samples pull {pull}; "
            f"{_change(own, 'stop_after_failed_check')} of failed checks end a trace, "
            f"{_change(own, 'unique_attempts_incorrect')} different attempts in an incorrect "
            f"completion, {_change(own, 'repetition_frac')} of completions end in a cycle."
        )


def _change(steps: Sequence[Event], field: str) -> str:
    """First and last values of a stage, as means over a fifth of its steps."""
    width = max(1, round(_SHARE_AT_END * len(steps)))
    values = [number(step, field) for step in steps]
    ends = (_mean(values[:width]), _mean(values[-width:]))
    return " to ".join("unknown" if np.isnan(end) else f"{end:.2g}" for end in ends)


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")
