"""The paper's figures from recorded runs: each is drawn, with its numbers, and with the paper's."""

import json
from pathlib import Path

import numpy as np
import pytest

from e3mega.evaluate.extrapolation import area_beyond
from e3mega.plan.paths import RunPaths
from e3mega.report.canvas import report_style
from e3mega.report.page import write_report
from e3mega.report.paper import reference
from e3mega.report.paper.rollout_facts import ends_in_repetition, facts_of
from e3mega.report.paper.rows import paper_rows
from e3mega.report.runs import Run, cohorts_of, read_run
from e3mega.rollout.rows import read_groups
from tests.data.make_recorded_run import write_recorded_run

MORE = (
    {
        "event": "asymmetry",
        "label": "base",
        "version": 300,
        "attempts": [2, 4, 8],
        "k": [1, 2, 4],
        "pass_at_k": [[0.1, 0.2, 0.3], [0.2, 0.3, 0.4], [0.3, 0.4, 0.5]],
    },
    {
        "event": "attempt_logprobs",
        "label": "base",
        "attempt": [2, 3, 4],
        "context": [0.0, 0.1, 0.2],
        "progress": [0.1, 0.0, 0.1],
        "repeat": [-1.0, -2.0, -3.0],
    },
    {
        "event": "forcing",
        "label": "model",
        "slice": "all",
        "num_waits": [0, 1, 2],
        "mean_tokens": [40.0, 60.0, 75.0],
        "accuracy": [0.3, 0.32, 0.33],
        "stderr": [0.02, 0.02, 0.02],
    },
    {"event": "step", "mode": "rl", "stage": "hard", "step": 381, "stage_step": 41, "kl": 0.02},
)


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    """Two recorded runs that have everything that any figure reads."""
    folder = tmp_path_factory.mktemp("paper")
    runs: list[Run] = []
    for name, scale in (("grpo", 1.0), ("masked", 0.7)):
        run_dir = write_recorded_run(folder / name, name=name, seed=1, scale=scale)
        with RunPaths(run_dir).metrics("loop").open("a") as file:
            file.writelines(json.dumps({"time": 2e9, **event}) + "\n" for event in MORE)
        runs.append(read_run(run_dir))
    return runs


@pytest.mark.parametrize("with_paper", [False, True])
def test_every_figure_of_the_paper_is_drawn_with_its_numbers(
    two_runs: list[Run], with_paper: bool
) -> None:
    cohorts = cohorts_of(two_runs)
    with report_style():
        for row in paper_rows(with_paper=with_paper):
            drawing = row.draw(cohorts)
            assert drawing is not None, row.name
            assert drawing.panels and drawing.table.rows, row.name
            assert {len(cells) for cells in drawing.table.rows} == {len(drawing.table.columns)}
            has_layer = any("paper:" in f"{panel.title}{panel.svg}" for panel in drawing.panels)
            has_own_points = row.name != "paper-8c"
            assert has_layer == (with_paper and has_own_points), row.name


def test_a_figure_that_one_run_cannot_show_is_left_out_and_listed(tmp_path: Path) -> None:
    run_dir = write_recorded_run(tmp_path / "a", name="a", seed=1, with_rollouts=False)
    page = write_report([run_dir]).read_text()
    for row in paper_rows(with_paper=False):
        is_drawn = f'<section id="{row.name}">' in page
        is_listed = f"{row.title} (needs: " in page
        assert is_drawn != is_listed, row.name
    assert '<section id="paper-10">' in page and '<section id="paper-5">' not in page


def test_the_area_of_the_notes_is_that_of_the_curve(tmp_path: Path) -> None:
    """A run writes its area; the reference's own e3 line gains .14 on average beyond 8k."""
    line = reference.AIME_2025[0]
    curve = np.array([line.y])
    gains = np.array(line.y[1:]) - line.y[1]
    doublings = np.log2(np.array(line.x[1:]) / line.x[1])
    slow = sum((gains[i] + gains[i + 1]) / 2 * (doublings[i + 1] - doublings[i]) for i in range(3))
    area = area_beyond([int(x) for x in line.x], curve, 8192)[0]
    assert area == pytest.approx(slow / 2)
    assert 0.12 < area < 0.14


def test_an_ending_is_repetition_when_a_block_stands_there_three_times() -> None:
    assert ends_in_repetition([9, 8, *[1, 2, 3, 4] * 3])
    assert ends_in_repetition([5, *[7] * 12])
    assert not ends_in_repetition([5, *[7] * 11])
    assert not ends_in_repetition([*[1, 2, 3, 4] * 3, 9])
    assert not ends_in_repetition(list(range(40)))
    assert not ends_in_repetition([])


def test_facts_of_rollouts_are_those_of_a_slow_count(two_runs: list[Run]) -> None:
    run = two_runs[0]
    wrong: dict[str, set[str]] = {}
    totals: dict[str, list[bool]] = {}
    paths = run.paths.rollouts_for("train").rglob("*.parquet")
    groups = [group for path in paths for group in read_groups(path)]
    pairs = [(group, rollout) for group in groups for rollout in group.rollouts]
    for group, rollout in pairs:
        problem, ends = group.request.prompt.problem, rollout.marks.attempts_at
        is_wrong = rollout.marks.reward <= 0
        totals.setdefault(problem, []).append(is_wrong)
        parts = zip((0, *ends), ends, strict=False)
        words = {str(rollout.completion.token_ids[start : end - 1]) for start, end in parts}
        wrong.setdefault(problem, set()).update(words if is_wrong else set())
    hard = [problem for problem, flags in totals.items() if np.mean(flags) >= 0.5]
    expected = sorted(len(wrong.get(problem, ())) for problem in hard)
    facts = facts_of(run)
    assert sorted(facts.unique_attempts) == expected and max(expected) > 1
    # An attempt on three numbers holds two operations; an answer may add a sign more.
    assert all(1.8 < value < 2.6 for _, value in facts.equations)


def test_the_folder_of_an_asymmetry_is_drawn_beside_runs(tmp_path: Path) -> None:
    rows = [
        {"num_attempts": n, "points": [{"k": k, "pass_at_k": 0.01 * n * k} for k in (1, 2, 4)]}
        for n in (2, 4)
    ]
    (tmp_path / "base").mkdir()
    content = {"model": "runs/base", "chained": rows}
    (tmp_path / "base" / "asymmetry.json").write_text(json.dumps(content))
    run = read_run(tmp_path / "base")
    row = next(row for row in paper_rows(with_paper=True) if row.name == "paper-3")
    with report_style():
        drawing = row.draw(cohorts_of([run]))
    assert drawing is not None and len(drawing.panels) == 2
    assert ("base", "base", 4.0, 2.0, 0.08) in drawing.table.rows
    assert len(drawing.table.rows) == 6
