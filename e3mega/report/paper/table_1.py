"""pass@k of every model side by side, as Table 1 of the paper."""

# matplotlib's drawing functions take **kwargs that its stubs leave untyped.
# pyright: reportUnknownMemberType=false

from collections.abc import Sequence

from matplotlib.figure import Figure

from e3mega.report.accuracy import BASE_LABEL
from e3mega.report.canvas import GRID, INK, PANEL_INCHES, QUIET, Panel, new_axes, panel
from e3mega.report.drawing import Cell, Drawing, Table
from e3mega.report.paper.reference import TABLE_1
from e3mega.report.runs import Cohort, numbers, text

_BELOW_INCHES, _ABOVE_INCHES, _ROW_INCHES = 0.5, 0.1, 0.24
Row = tuple[str, dict[int, tuple[float, float]]]
"""A model, and by k its pass@k with its standard error."""


def draw_table_1(cohorts: Sequence[Cohort], *, with_paper: bool) -> Drawing | None:
    """pass@k in percent, a row a model and benchmark; the paper's rows below when asked."""
    rows = _rows(cohorts)
    if not rows:
        return None
    nan = float("nan")
    paper: list[Row] = [
        (f"paper: {line.label}", {int(k): (v, nan) for k, v in zip(line.x, line.y, strict=True)})
        for line in (TABLE_1 if with_paper else ())
    ]
    ks = sorted({k for _, values in (*rows, *paper) for k in values})
    cells: list[tuple[Cell, ...]] = [
        (name, float(k), *values[k]) for name, values in (*rows, *paper) for k in sorted(values)
    ]
    table = Table(("model", "k", "pass_at_k", "stderr"), tuple(cells))
    return Drawing((_panel(rows, paper, ks),), table)


def _rows(cohorts: Sequence[Cohort]) -> list[Row]:
    rows: list[Row] = []
    for run in (run for cohort in cohorts for run in cohort.runs):
        for event in run.of("pass_k"):
            label, where = text(event, "label"), text(event, "slice")
            name = f"{run.name}, {label}" if label != BASE_LABEL else f"{run.name}, base"
            name += f", {where}" if where else ""
            points = zip(
                numbers(event, "k"),
                numbers(event, "pass_at_k"),
                numbers(event, "stderr"),
                strict=False,
            )
            rows.append((name, {int(k): (value, error) for k, value, error in points if k == k}))
    return rows


def _panel(rows: Sequence[Row], paper: Sequence[Row], ks: Sequence[int]) -> Panel:
    axes = new_axes("k", "")
    everything = [*rows, *paper]
    figure = axes.get_figure()
    assert isinstance(figure, Figure), "a panel's axes stand in a figure of their own"
    height = max(PANEL_INCHES[1], _BELOW_INCHES + _ABOVE_INCHES + _ROW_INCHES * len(everything))
    figure.set_size_inches(PANEL_INCHES[0], height)
    below, above = _BELOW_INCHES / height, _ABOVE_INCHES / height
    axes.set_position((0.42, below, 0.56, 1.0 - below - above))
    for y, (_, values) in enumerate(everything):
        for x, k in enumerate(ks):
            if k in values:
                words = f"{100 * values[k][0]:.1f}"
                colour = INK if y < len(rows) else QUIET
                axes.text(x, -y, words, ha="center", va="center", fontsize=9, color=colour)
    axes.set_xlim(-0.6, len(ks) - 0.4)
    axes.set_ylim(0.6 - len(everything), 0.6)
    axes.set_xticks(range(len(ks)), [str(k) for k in ks])
    names = [name if len(name) <= 28 else f"{name[:27]}…" for name, _ in everything]
    axes.set_yticks([-y for y in range(len(everything))], names, fontsize=7.5)
    axes.grid(False)
    for y in range(len(everything) - 1):
        axes.axhline(-y - 0.5, color=GRID, linewidth=0.8)
    return panel("pass@k, percent", axes)
