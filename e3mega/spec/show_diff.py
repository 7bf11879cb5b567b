"""Writes the difference of two specs as text that fits into 80 columns."""

from e3mega.spec.diff import Change, Difference


def difference_text(found: Difference) -> str:
    """Each change with both values and their origins, then what follows."""
    lines = [line for change in found.changes for line in _lines(change)]
    return "\n".join([*lines, found.conclusion])


def _lines(change: Change) -> list[str]:
    return [
        f"{change.key}: {change.verdict}",
        f"  - {change.left}  # {change.left_place}",
        f"  + {change.right}  # {change.right_place}",
    ]
