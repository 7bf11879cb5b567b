"""The table of the paper's figures: what each is called, how it is read, what it needs."""

from collections.abc import Callable, Sequence
from functools import partial

from e3mega.report.drawing import Drawing, FigureRow
from e3mega.report.paper.asymmetry import draw_asymmetry, draw_verified
from e3mega.report.paper.attempts import (
    draw_attempt_logprobs,
    draw_equations,
    draw_exploration,
    draw_lengths,
    draw_pass_by_attempts,
)
from e3mega.report.paper.budgets import (
    draw_curricula,
    draw_test_budgets,
    draw_training_budgets,
    draw_waits,
)
from e3mega.report.paper.dynamics import draw_kl, draw_signs, draw_stage_rewards
from e3mega.report.paper.table_1 import draw_table_1
from e3mega.report.runs import Cohort

PaperDraw = Callable[..., Drawing | None]

_ROWS: tuple[tuple[str, str, str, str, PaperDraw], ...] = (
    (
        "paper-10",
        "Fig. 1b, 2, 10, 11: beyond the training budget",
        "Solid up to the budget that the last stage trained at, dashed beyond it. A dashed line "
        "that rises extrapolates; the notes say by how much on average over the doublings.",
        "evaluation",
        draw_test_budgets,
    ),
    (
        "paper-10c",
        "Fig. 10c: told to wait",
        "Each time the model ends, its end is taken away and it is told to go on. A model that "
        "explores by itself gains little from it.",
        "forcing; e3mega eval --waits",
        draw_waits,
    ),
    (
        "paper-3",
        "Fig. 3, 12: pass@k against chained attempts",
        "Darker to the right: more samples help. Darker upwards: more attempts in one sample help, "
        "which is the asymmetry between checking and guessing at work.",
        "asymmetry; e3mega asymmetry",
        draw_pass_by_attempts,
    ),
    (
        "paper-4",
        "Fig. 4: with and without asymmetry",
        "Where the model checks its attempts, longer budgets are used and pay; without checks, "
        "length does not grow.",
        "steps of two runs or more",
        draw_asymmetry,
    ),
    (
        "paper-5",
        "Fig. 5: with and without negative gradients",
        "Negative gradients keep entropy up and make incorrect traces longer and fuller of "
        "attempts; masked, entropy collapses and attempts stay.",
        "steps of two runs or more",
        draw_signs,
    ),
    (
        "paper-6",
        "Fig. 6: exploration",
        "To the right: more different attempts on problems that stay unsolved. Rollouts that end "
        "in repetition are budget wasted.",
        "recorded rollouts",
        draw_exploration,
    ),
    (
        "paper-8",
        "Fig. 8a, b: fixed budgets and data mixes",
        "Runs of one recipe that differ in budget or data: too short leaves nothing to "
        "extrapolate, too long is hard to optimise.",
        "evaluations of two runs or more",
        draw_training_budgets,
    ),
    (
        "paper-8c",
        "Fig. 8c, d: lengths of held-out completions",
        "At the last evaluation. Mass at the right edge was cut by the largest test budget.",
        "recorded rollouts of an evaluation",
        draw_lengths,
    ),
    (
        "paper-9a",
        "Fig. 9a: curricula",
        "Curricula that vary budget, data or both, on the same held-out problems.",
        "evaluations of two runs, one of several RL stages",
        draw_curricula,
    ),
    (
        "paper-9b",
        "Fig. 9b, 16: accuracy and reward across stages",
        "Held-out accuracy at the budget of its stage: a jump where a stage begins is the budget's "
        "doing alone, for weights and problems are the same on both sides of the line. The "
        "training reward also falls or rises with the stage's own problems.",
        "steps of a run with several RL stages",
        draw_stage_rewards,
    ),
    (
        "paper-13",
        "Fig. 13: divergence from the base",
        "A short budget moves the model further for what it gains.",
        "steps with a KL term",
        draw_kl,
    ),
    (
        "paper-14",
        "Fig. 14: what an attempt tells the next one",
        "Above 0: the attempt just before makes the next one likelier than without it, so that "
        "attempts build on each other.",
        "attempt_logprobs",
        draw_attempt_logprobs,
    ),
    (
        "paper-15",
        "Fig. 15: verifications and accuracy",
        "Negative gradients raise verifications where the base can check, and little where it "
        "cannot.",
        "steps of two runs or more",
        draw_verified,
    ),
    (
        "paper-16",
        "Fig. 16: equations in an attempt",
        "Problems of more numbers need more equations; a model that was trained too long on easy "
        "ones makes terse attempts.",
        "recorded rollouts",
        draw_equations,
    ),
    (
        "paper-table-1",
        "Table 1: pass@k",
        "In percent, at the largest test budget.",
        "pass_k",
        draw_table_1,
    ),
)


def paper_rows(*, with_paper: bool) -> tuple[FigureRow, ...]:
    """The rows; ``with_paper`` lays the paper's own points behind ours."""

    def bound(draw: PaperDraw) -> Callable[[Sequence[Cohort]], Drawing | None]:
        return partial(draw, with_paper=with_paper)

    return tuple(
        FigureRow(name, title, how_to_read, needs, bound(draw))
        for name, title, how_to_read, needs, draw in _ROWS
    )
