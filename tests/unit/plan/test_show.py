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


def test_a_stage_with_a_grid_of_its_own_has_its_own_ranks_and_memory(tmp_path: Path) -> None:
    text = shown(tmp_path, "curriculum.stages.hard.layout.learner={tp: 1, dp: 2, pp: 3}")
    _, first, second = " ".join(text.split()).split("where the learner's ranks are in ")
    assert first.startswith("warmup, easy ") and "learner memory in warmup, easy" in first
    assert second.startswith("hard ") and "learner memory in hard" in second
    rows = [line.split() for line in text.splitlines()]
    assert ["0", "-", "0-1", "0-1", "0", "0", "0", "0"] in rows, "tp 2"
    assert ["0", "-", "4-5", "0", "0", "0-1", "2", "0"] in rows, "dp 2, last of pp 3"
    assert "ranks are in" not in shown(tmp_path)


def test_the_overlong_buffer_is_shown_where_a_loss_has_one(tmp_path: Path) -> None:
    text = shown(tmp_path, "loss.sign.truncated={kind: soft_penalty, buffer_frac: 0.25}")
    rows = [line.split() for line in text.splitlines()]
    assert ["stage", "budget", "buffer", "longest", "bin"] in [row[:5] for row in rows]
    assert ["hard", "128", "32", "135"] in [row[:4] for row in rows]
    assert "buffer" not in shown(tmp_path)
