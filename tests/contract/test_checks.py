"""The checks of make lint hold for the whole checkout."""

import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
PROGRAMS = Path(sys.executable).parent


@pytest.mark.parametrize(
    "command",
    [
        ["ruff", "check", "."],
        ["ruff", "format", "--check", "."],
        ["lint-imports"],
        ["pyright", "--pythonpath", sys.executable],
    ],
    ids=["style", "format", "layers", "types"],
)
def test_the_check_passes(command: list[str]) -> None:
    program = PROGRAMS / command[0]
    done = subprocess.run(
        [program, *command[1:]], cwd=CHECKOUT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
