"""Panels drawn with matplotlib and turned into SVG whose colours follow the page's theme."""

# matplotlib's drawing functions take **kwargs that its stubs leave untyped.
# pyright: reportUnknownMemberType=false

import io
import math
import re
import zlib
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from matplotlib.typing import RcKeyType
from numpy.typing import NDArray

INK = "#1b1f24"
QUIET = "#6a737d"
GRID = "#e3e6ea"
PAPER = "#fdfdfe"
SERIES = ("#0b62a8", "#c8500a", "#0f7f64", "#a8478f", "#553311", "#bb66ff", "#4411aa")
BASE = "#757b84"

# Each drawn colour becomes a variable of the page's style sheet, which has a dark variant.
THEME = {
    INK: "var(--ink)",
    QUIET: "var(--quiet)",
    GRID: "var(--grid)",
    PAPER: "var(--paper)",
    BASE: "var(--base)",
    **{colour: f"var(--s{index})" for index, colour in enumerate(SERIES)},
}
MARKERS = ("o", "s", "D", "^", "v", "P", "X")
DASHES = ("-", (0, (5, 2)), (0, (1.2, 1.6)), (0, (6, 2, 1.2, 2)))

PANEL_INCHES = (4.6, 3.1)

STYLE: dict[RcKeyType, Any] = {
    "figure.dpi": 72,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "svg.fonttype": "none",
    "svg.hashsalt": "e3mega",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 10,
    "axes.edgecolor": QUIET,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "text.color": INK,
    "lines.linewidth": 1.7,
    "lines.markersize": 5.5,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "path.simplify": True,
}

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture of a figure. Example: ``Panel("easy", "<svg ...>...</svg>")``."""

    title: str
    svg: str


def new_axes(x_label: str, y_label: str) -> Axes:
    """Empty axes of one panel's size, in the report's style; call within ``report_style()``."""
    figure = Figure(figsize=PANEL_INCHES)
    FigureCanvasSVG(figure)
    axes = figure.add_axes((0.15, 0.15, 0.83, 0.75))
    # Steps, versions, tokens, samples: all that stands on an x axis comes in whole numbers.
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    return axes


def panel(title: str, axes: Axes) -> Panel:
    """The finished panel: SVG with theme colours, text kept as text, no fixed size."""
    axes.yaxis.set_label_coords(-0.135, 0.5)
    if len(axes.get_ylabel()) > 40:
        # A longer one would be cut at the panel's edges.
        axes.yaxis.label.set_fontsize(8)
    ticks = axes.yaxis.get_major_formatter().format_ticks(list(axes.get_yticks()))
    if max(map(len, ticks), default=0) > 4:
        # Longer numbers would run into the axis' label.
        axes.tick_params(axis="y", labelsize=7.5)
    figure = axes.get_figure()
    assert isinstance(figure, Figure), "a panel's axes stand in a figure of their own"
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return Panel(title, _inline_svg(buffer.getvalue(), title))


def report_style() -> AbstractContextManager[None]:
    """A context in which everything is drawn in the report's style."""
    return mpl.rc_context(STYLE)


def legend(axes: Axes) -> None:
    """Write a panel's legend above its axes, and make the panel as much taller as it needs."""
    labels = axes.get_legend_handles_labels()[1]
    if not labels:
        return
    # Points: about 5 a letter at this size, 34 for the line, 290 in the panel's width.
    room = max(1, int(290 / (34 + 5 * max(len(label) for label in labels))))
    columns = min(3, room, len(labels))
    legend_above(axes, columns=columns)
    figure, place = axes.get_figure(), axes.get_position()
    assert isinstance(figure, Figure), "a panel's axes stand in a figure of their own"
    width, height = PANEL_INCHES
    taller = height + 0.18 * (math.ceil(len(labels) / columns) - 1)
    figure.set_size_inches(width, taller)
    share = height / taller
    axes.set_position((place.x0, place.y0 * share, place.width, place.height * share))


def legend_above(axes: Axes, *, columns: int) -> None:
    """Write the legend above the axes, where it hides no data."""
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(-0.02, 1.0),
        ncols=columns,
        borderaxespad=0.1,
        handlelength=2.0,
        columnspacing=1.2,
        labelspacing=0.25,
    )


def smooth(values: FloatArray, window: int) -> FloatArray:
    """Centred mean over ``window`` values, NaN passed over; the ends use what there is."""
    known = np.where(np.isnan(values), 0.0, values)
    kernel = np.ones(window)
    total = np.convolve(known, kernel, mode="full")
    count = np.convolve(~np.isnan(values), kernel, mode="full")
    start = (window - 1) // 2
    total, count = (each[start : start + len(values)] for each in (total, count))
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def budget_axis(
    axes: Axes, budgets: Sequence[float], trained: Sequence[tuple[str, float]] = ()
) -> None:
    """A logarithmic axis with a tick at each budget.

    ``trained`` are names and budgets of stages: a dotted line each, named below its tick.
    """
    names: dict[float, dict[str, None]] = {}
    for name, tokens in trained:
        if tokens > 0:
            names.setdefault(tokens, {})[name] = None
    ticks = sorted({*(budget for budget in budgets if budget > 0), *names})
    if not ticks:
        return
    labels = [
        "\n".join([f"{tick:.0f}", *([", ".join(names[tick])] if tick in names else [])])
        for tick in ticks
    ]
    axes.set_xscale("log", base=2)
    axes.set_xticks(ticks, labels)
    axes.minorticks_off()
    axes.set_xlim(ticks[0] / 1.12, ticks[-1] * 1.12)
    if names:
        axes.set_position((0.15, 0.215, 0.83, 0.685))
    for tokens in names:
        axes.axvline(tokens, color=QUIET, linewidth=1.1, linestyle=(0, (1, 2)), zorder=1)


def _inline_svg(document: str, title: str) -> str:
    body = document[document.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r"<style.*?</style>", "", body, flags=re.DOTALL)
    body = re.sub(r"font-family:[^;\"]*;? ?", "", body)
    body = re.sub(r"font: ([0-9.]+px)[^;\"]*", r"font-size: \1", body)
    body = re.sub(r"<!--.*?-->", "", body, flags=re.DOTALL)
    # Several pictures share a page: identifiers carry the picture's number.
    prefix = f"p{zlib.crc32((title + body).encode()):08x}-"
    body = re.sub(r'\bid="', f'id="{prefix}', body)
    body = re.sub(r"url\(#", f"url(#{prefix}", body)
    body = re.sub(r'href="#', f'href="#{prefix}', body)
    body = re.sub(
        r'<svg[^>]*?viewBox="([^"]+)"[^>]*>',
        r'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        r'viewBox="\1" role="img">',
        body,
        count=1,
    )
    for colour, variable in THEME.items():
        body = body.replace(colour, variable)
    return re.sub(r"\n\s*", "\n", body).strip()
