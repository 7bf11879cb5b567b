"""The paper's points behind a panel: faint lines on axes of their own, labelled at their ends."""

# matplotlib's drawing functions take **kwargs that its stubs leave untyped.
# pyright: reportUnknownMemberType=false

from collections.abc import Sequence

from matplotlib.axes import Axes

from e3mega.report.canvas import DASHES, QUIET
from e3mega.report.paper.reference import ReferenceLine

_NAME_POINTS = (80.0, 7.5)
"""Width and height of a line's name."""


def draw_reference(axes: Axes, lines: Sequence[ReferenceLine], *, has_own_height: bool) -> None:
    """Draw the paper's lines faintly; their x axis stands above the panel.

    The paper's runs are thousands of times larger, so its tokens and steps share no axis with
    ours. With ``has_own_height`` (lengths, counts) neither do its values, which are then scaled
    to the panel; shares and accuracies keep the panel's axis.
    """
    if not lines:
        return
    if not has_own_height:
        values = [value for line in lines for value in line.y]
        low, high = axes.get_ylim()
        # Only logarithms go below 0; a share's axis begins there.
        low = min(low, 1.1 * min(values)) if min(values) < 0 else low
        axes.set_ylim(low, max(high, 1.18 * max(values)))
    top = axes.twiny()
    layer = top.twinx() if has_own_height else top
    xs = [x for line in lines for x in line.x]
    if axes.get_xscale() == "log" and min(xs) > 0:
        top.set_xscale("log", base=2)
    for place, line in enumerate(lines):
        layer.plot(
            line.x,
            line.y,
            color=QUIET,
            alpha=0.45,
            linewidth=0.9,
            linestyle=DASHES[place % len(DASHES)],
            marker=".",
            markersize=3,
            zorder=0,
        )
    if layer is not top:
        # Room for the label of the highest line.
        layer.set_ylim(0.0, 1.15 * max(value for line in lines for value in line.y))
        layer.set_yticks([])
        layer.spines["right"].set_visible(False)
    _name_lines(layer, lines)
    top.set_xticks([])
    top.minorticks_off()
    for spine in ("top", "right"):
        top.spines[spine].set_visible(False)
        layer.spines[spine].set_visible(False)
    top.grid(False)
    layer.grid(False)


def _name_lines(layer: Axes, lines: Sequence[ReferenceLine]) -> None:
    """Write each line's name above its end, and above the names that it would cover."""
    # The view's limits are brought up to date by being asked for; a figure has 72 dots an inch.
    _ = layer.get_xlim(), layer.get_ylim()
    ends = [(*layer.transData.transform((line.x[-1], line.y[-1])), line) for line in lines]
    placed: list[tuple[float, float]] = []
    for x, y, line in sorted(ends, key=lambda end: (end[1], end[2].label)):
        at = y + 2.0
        for other_x, other_y in sorted(placed, key=lambda each: each[1]):
            if abs(x - other_x) < _NAME_POINTS[0] and abs(at - other_y) < _NAME_POINTS[1]:
                at = other_y + _NAME_POINTS[1]
        placed.append((x, at))
        layer.annotate(
            f"paper: {line.label}",
            xy=(line.x[-1], line.y[-1]),
            xytext=(-2, at - y),
            textcoords="offset points",
            ha="right",
            va="bottom",
            fontsize=6.5,
            color=QUIET,
            alpha=0.8,
        )
