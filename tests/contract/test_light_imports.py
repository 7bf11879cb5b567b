"""Planning, the loop, the report and the command line load no training or serving library."""

import json
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

from e3mega.cli import COMMANDS

CHECKOUT = Path(__file__).parents[2]
HEAVY = ("torch", "megatron", "vllm", "transformers", "nemo_run", "datasets")
LIGHT = (
    "families",
    "tasks",
    "objective",
    "curriculum",
    "spec",
    "plan",
    "rollout",
    "evaluate",
    "loop",
    "report",
    "run",
    "commands",
)
PROGRAM = """
import importlib, json, sys
found = {}
for name in json.loads(sys.argv[1]):
    importlib.import_module(name)
    for heavy in json.loads(sys.argv[2]):
        if heavy in sys.modules and heavy not in found:
            found[heavy] = name
print(json.dumps(found))
"""


def loaded_by(modules: list[str], heavy: tuple[str, ...] = HEAVY) -> dict[str, str]:
    """Each heavy library that a fresh process has after importing, with the module to blame."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(modules), json.dumps(heavy)],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def modules_of(package: str) -> list[str]:
    path, prefix = [str(CHECKOUT / "e3mega" / package)], f"e3mega.{package}."
    return [f"e3mega.{package}", *(each.name for each in pkgutil.walk_packages(path, prefix))]


@pytest.mark.parametrize("package", LIGHT)
def test_a_light_package_loads_no_heavy_library(package: str) -> None:
    assert loaded_by(modules_of(package)) == {}


def test_help_loads_only_the_standard_library() -> None:
    slow = (*HEAVY, "pydantic", "omegaconf", "yaml", "rich", "numpy", "pyarrow", "matplotlib")
    assert loaded_by(["e3mega.cli"], slow) == {}
    done = subprocess.run(
        [sys.executable, "-m", "e3mega.cli", "--help"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=True,
    )
    # A long name has its help on the line below.
    words = {line.split()[0] for line in done.stdout.splitlines() if line.startswith("    ")}
    assert set(COMMANDS) <= words


def test_planning_loads_neither_arrays_nor_what_the_spec_does_not_need() -> None:
    """Each of these alone takes a fifth of the time that planning may take."""
    program = (
        "import sys; from e3mega.cli import main; main(['plan', 'quickstart', '--json']);"
        "print(sorted(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=CHECKOUT, capture_output=True, text=True, check=True
    )
    for name in ("numpy", "omegaconf", "pyarrow", "matplotlib", "asyncio", "rich"):
        assert f"'{name}'" not in done.stderr, name
