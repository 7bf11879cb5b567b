"""Every fault of docs/faults.md is injected by tests that exist."""

import re
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
ROWS = [
    line
    for line in (CHECKOUT / "docs" / "faults.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("| ") and not line.startswith("| fault")
]
MIN_FAULTS = 15


def every_test() -> set[str]:
    files = (CHECKOUT / "tests").rglob("test_*.py")
    texts = (path.read_text(encoding="utf-8") for path in files)
    return {name for text in texts for name in re.findall(r"^def (test_\w+)", text, re.MULTILINE)}


@pytest.mark.parametrize("row", ROWS)
def test_a_fault_names_tests_that_inject_it(row: str) -> None:
    named = re.findall(r"`(test_\w+)`", row)
    assert named and set(named) <= every_test(), set(named) - every_test()


def test_the_table_is_long_enough() -> None:
    assert len(ROWS) >= MIN_FAULTS
