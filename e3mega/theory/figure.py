"""Draws the bigram world beside the paper's curves, and the other two checks."""

# matplotlib's drawing functions take **kwargs that its stubs leave untyped.
# pyright: basic

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from e3mega.report.canvas import GRID, INK, QUIET, SERIES
from e3mega.theory.bigram import BigramCurves
from e3mega.theory.entropy_theorem import TheoremCheck
from e3mega.theory.guessing import success_by
from e3mega.theory.paper_curves import MASKED, NEGATIVE

_PANELS = {
    "reward": "reward",
    "length": "tokens of a trace",
    "stop": "probability of stopping",
    "right": "probability of the right action",
    "entropy": "entropy, nats",
}
_WITH, _WITHOUT = SERIES[0], SERIES[1]


def draw(
    path: Path,
    negative: BigramCurves,
    masked: BigramCurves,
    checks: tuple[TheoremCheck, ...],
) -> None:
    """Write a PNG with seven panels."""
    figure = Figure(figsize=(16, 7.6), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 4).ravel()
    for panel, (name, title) in zip(axes[:5], _PANELS.items(), strict=True):
        _curves(panel, name, negative, masked)
        panel.set_title(title, loc="left", fontsize=11)
        panel.set_xlabel("updates, one trace each")
    _guesses(axes[5])
    _theorem(axes[6], checks)
    handles, labels = axes[0].get_legend_handles_labels()
    axes[7].axis("off")
    axes[7].legend(handles, labels, loc="upper left", frameon=False, fontsize=11)
    for panel in axes[:7]:
        panel.grid(color=GRID)
        panel.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


def _curves(panel: Axes, name: str, negative: BigramCurves, masked: BigramCurves) -> None:
    for curves, points, colour, words in (
        (negative, NEGATIVE, _WITH, "with negative gradients"),
        (masked, MASKED, _WITHOUT, "without"),
    ):
        panel.plot(curves.updates, getattr(curves, name), color=colour, label=f"{words}, here")
        x, y = np.array(points[name]).T
        panel.plot(x, y, "o--", color=colour, alpha=0.5, ms=4, lw=1, label=f"{words}, the paper")


def _guesses(panel: Axes) -> None:
    guesses = np.arange(1, 33)
    for p, colour in zip((0.5, 0.8, 0.95), SERIES, strict=False):
        panel.plot(guesses, success_by(p, guesses), color=colour, label=f"p = {p}")
    panel.legend(loc="lower right", frameon=False)
    panel.set_title("success of k checked guesses, 1 - p^k", loc="left", fontsize=11)
    panel.set_xlabel("k")


def _theorem(panel: Axes, checks: tuple[TheoremCheck, ...]) -> None:
    sizes = [check.num_actions for check in checks]
    panel.loglog(sizes, [check.printed_constant for check in checks], "o-", color=INK)
    panel.loglog(
        sizes,
        [checks[0].printed_constant * sizes[0] / size for size in sizes],
        ":",
        color=QUIET,
    )
    at = (sizes[-2], checks[0].printed_constant * sizes[0] / sizes[-2])
    panel.annotate("1 / actions", at, (4, 8), textcoords="offset points", color=QUIET)
    panel.set_title("largest c of the bound in print", loc="left", fontsize=11)
    panel.set_xlabel("actions")
