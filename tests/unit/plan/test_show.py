"""The printed plan fits into 80 columns and holds the numbers that matter."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from e3mega.cli import main
from e3mega.plan.compile import compile_plan
from e3mega.plan.show import print_plan
from tests.spec_cases import resolved


def shown(tmp_path: Path, *sets: str) -> str:
    text = io.StringIO()
    options = resolved(tmp_path, "include: [runs/quickstart]\n", sets=sets).options
    print_plan(compile_plan(options), Console(file=text, width=80))
    return text.getvalue()


def test_all_tables_fit(tmp_path: Path) -> None:
    text = shown(tmp_path, "layout.learner.pp=3", "layout.generation.num_replicas=2")
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 80
    rows = [line.split() for line in text.splitlines()]
    for words in (
        ["easy", "rl", "64", "steps", "40", "32", "x", "8", "1", "0"],
        ["hard", "rl", "64", "or", "128", "steps", "40", "32", "x", "8", "1", "0"],
        ["hard", "128", "135", "2048", "256", "18,176", "9", "69.1"],
        ["generation_0-1", "generation", "e3mega.generation.server", "2", "0"],
        ["0", "-", "2-3", "0-1", "0", "0", "1", "0"],
    ):
        assert any(row[: len(words)] == words for row in rows), words
    assert "607,296 parameters" in text


def test_warnings_are_printed(tmp_path: Path) -> None:
    text = shown(tmp_path, "evaluation.budgets=[64, 4k]")
    assert "warning stage easy: the evaluation budgets [4096]" in " ".join(text.split())


def test_the_plan_as_json_is_what_jobs_read(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "quickstart-small", "--json", "--set", "seed=5"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["name"], plan["seed"]) == ("quickstart-small", 5)
