"""The table of figures: each has a name, a title, how it is read, what it needs, what draws it."""

from collections.abc import Sequence

from e3mega.report.accuracy import draw_accuracy
from e3mega.report.canvas import report_style
from e3mega.report.decisions import draw_budget_decision, draw_pass_at_k, draw_recognition
from e3mega.report.drawing import Drawing, FigureRow
from e3mega.report.paper.rows import paper_rows
from e3mega.report.runs import Cohort
from e3mega.report.signs import draw_signs
from e3mega.report.system import draw_sync, draw_time
from e3mega.report.training import draw_entropy, draw_length, draw_reward, draw_truncation

FIGURES: tuple[FigureRow, ...] = (
    FigureRow(
        "accuracy",
        "Accuracy against test budget",
        "Share of held-out problems solved when each completion is cut at the test budget; bars "
        "are one standard error. Dotted lines are training budgets, named by their stages: a line "
        "that still rises to the right of them extrapolates.",
        "evaluation",
        draw_accuracy,
    ),
    FigureRow(
        "reward",
        "Reward over steps",
        "Faint: each step. Strong: centred mean over nine steps. A new stage brings new data or "
        "a new budget, so the reward may jump there.",
        "step of an RL stage",
        draw_reward,
    ),
    FigureRow(
        "length",
        "Length and attempts",
        "The recipe works when incorrect traces grow first: the model goes on searching instead "
        "of giving up, and attempts rise with length.",
        "step of an RL stage",
        draw_length,
    ),
    FigureRow(
        "entropy",
        "Entropy",
        "Mean entropy of the next-token distribution over trained tokens. Negative gradients tend "
        "to keep it up; a collapse towards zero ends exploration.",
        "step of an RL stage",
        draw_entropy,
    ),
    FigureRow(
        "signs",
        "Positive and negative samples",
        "Look at three lines: negative gradients drive exploration when their pull is not small "
        "beside that of positive samples, the share of failed checks that end a trace falls, and "
        "different attempts of incorrect completions rise. Where the pull is near zero, stopping "
        "stays level, or only repetition rises, they do not. The sentences below give the numbers.",
        "step of an RL stage",
        draw_signs,
    ),
    FigureRow(
        "truncation",
        "Truncation",
        "Share of completions that reached their budget before the model ended them.",
        "step of an RL stage, or evaluation",
        draw_truncation,
    ),
    FigureRow(
        "budget",
        "The budget decision",
        "The coupled rule takes the smallest budget B at which doubling it multiplies the share "
        "of solved problems by at most kappa. Bars are the interval of the ratio; where it "
        "straddles kappa the smaller budget is taken.",
        "budget_decision",
        draw_budget_decision,
    ),
    FigureRow(
        "recognition",
        "Recognition in the warm-up",
        "How often the model calls a correct attempt a hit, and a wrong one. The warm-up ends "
        "when both pass their limits (dashed), or at its cap of steps.",
        "recognition",
        draw_recognition,
    ),
    FigureRow(
        "pass-k",
        "pass@k",
        "Probability that at least one of k samples solves a problem, unbiased; bars are one "
        "standard error.",
        "pass_k",
        draw_pass_at_k,
    ),
    FigureRow(
        "time",
        "Where the time goes",
        "Seconds of each round, stacked by phase, and their sums. The highest rounds are cut at "
        "1.3 times the 97th percentile.",
        "round",
        draw_time,
    ),
    FigureRow(
        "sync",
        "Weight sync and canary",
        "After every sync learner and server score the same tokens. Their log-probs must agree, "
        "and so must the change since the last version; zero is drawn at 1e-9.",
        "sync or canary",
        draw_sync,
    ),
)


def draw_figures(
    cohorts: Sequence[Cohort], *, with_paper: bool
) -> tuple[list[tuple[FigureRow, Drawing]], list[FigureRow]]:
    """Figures that have data, in order, and those that have none.

    ``with_paper`` lays the points of arXiv 2506.09026 behind the figures that redraw its own.
    """
    drawn: list[tuple[FigureRow, Drawing]] = []
    missing: list[FigureRow] = []
    with report_style():
        for row in (*FIGURES, *paper_rows(with_paper=with_paper)):
            drawing = row.draw(cohorts)
            if drawing is None:
                missing.append(row)
            else:
                drawn.append((row, drawing))
    return drawn, missing
