"""Figures of what positive and negative samples do to the policy."""

from collections.abc import Sequence

from e3mega.report.drawing import Drawing
from e3mega.report.lines import Quantity
from e3mega.report.runs import Cohort
from e3mega.report.training import BY_VERDICT, StepPanel, draw_steps

_BY_SIGN = (("positive", "positive samples"), ("negative", "negative samples"))


def draw_signs(cohorts: Sequence[Cohort]) -> Drawing | None:
    """Pull of each sign, and the traces of exploration that negative gradients leave."""
    pull = tuple(Quantity(f"logit_grad_norm_{sign}", label) for sign, label in _BY_SIGN)
    share = tuple(Quantity(f"tokens_{sign}_frac", label) for sign, label in _BY_SIGN)
    clipped = tuple(Quantity(f"clip_{sign}_frac", label) for sign, label in _BY_SIGN)
    unique = tuple(Quantity(f"unique_attempts_{kind}", label) for kind, label in BY_VERDICT)
    stop = (Quantity("stop_after_failed_check", ""),)
    cycles = (Quantity("repetition_frac", ""),)
    return draw_steps(
        cohorts,
        (
            StepPanel("pull of each sign", "norm of the gradient at the logits", pull),
            StepPanel("tokens of each sign", "share of tokens", share),
            StepPanel("stopping", "share of failed checks that end a trace", stop),
            StepPanel("different attempts", "different attempts in a completion", unique),
            StepPanel("repetition", "share that ends in a cycle", cycles),
            StepPanel("clipping", "share of tokens clipped", clipped),
        ),
    )
