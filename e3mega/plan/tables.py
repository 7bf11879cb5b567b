"""Makes the tables of a printed plan, which fit into 80 columns."""

from collections.abc import Iterable

from rich import box
from rich.table import Table


def table(title: str, *columns: str, rows: Iterable[tuple[str, ...]] = ()) -> Table:
    """Columns whose name ends in a space are numbers, set to the right."""
    found = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    for column in columns:
        found.add_column(
            column.strip(), justify="right" if column.endswith(" ") else "left", overflow="fold"
        )
    for row in rows:
        found.add_row(*row)
    return found


def span(numbers: Iterable[int]) -> str:
    """Whole numbers as a person reads them. Example: ``span([0, 1, 2, 5]) == "0-2, 5"``."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(f"{first}" if first == last else f"{first}-{last}" for first, last in runs)
