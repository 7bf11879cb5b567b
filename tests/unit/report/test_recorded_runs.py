"""Every figure of the paper, drawn from recordings of real small runs (``tests.data.record_runs``).

``python -m tests.unit.report.test_recorded_runs DIR`` writes a page for each figure, to look at.
"""

import re
import sys
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from e3mega.report.accuracy import points_of
from e3mega.report.canvas import report_style
from e3mega.report.drawing import Drawing
from e3mega.report.evaluated import difference_in_errors
from e3mega.report.page import write_report
from e3mega.report.paper.held_out import AT_BUDGET, BEYOND, held_out_steps
from e3mega.report.paper.rollout_facts import facts_of
from e3mega.report.paper.rows import paper_rows
from e3mega.report.runs import Run, cohorts_of, number, numbers, read_run, text
from e3mega.rollout.rows import read_groups, read_texts
from tests.data.recorded_runs import FOLDER, recorded

EVALUATED = tuple(f"evaluation/{name}" for name in ("countdown-base", "grpo", "masked", "short"))
MULTIPLIED = ("multiplication", "multiplication-long")
VERIFIED = ("multiplication-verified", "multiplication-verified-long")
RUNS_OF: dict[str, tuple[str, ...]] = {
    "paper-10": ("quickstart", "grpo", "masked"),
    "paper-10c": EVALUATED,
    "paper-3": ("asymmetry-base", "asymmetry-grpo"),
    "paper-4": ("grpo", "short", *MULTIPLIED, *VERIFIED),
    "paper-5": ("grpo", "masked"),
    "paper-6": ("grpo", "masked"),
    "paper-8": ("grpo", "short", "easy", "mostly-easy"),
    "paper-8c": ("grpo", "short", "easy", "mostly-easy"),
    "paper-9a": ("budget-only", "data-only", "curriculum"),
    "paper-9b": ("curriculum", "data-only"),
    "paper-13": ("grpo", "short"),
    "paper-14": ("asymmetry-base", "asymmetry-grpo"),
    "paper-15": (
        MULTIPLIED[1],
        "multiplication-masked",
        VERIFIED[1],
        "multiplication-verified-masked",
    ),
    "paper-16": ("curriculum", "data-only"),
    "paper-table-1": ("grpo", "masked"),
}
PANELS = {"paper-4": 9, "paper-5": 4, "paper-9b": 4, "paper-14": 3, "paper-15": 2, "paper-3": 2}
"""Panels that a figure must have where a missing one would not be noticed otherwise."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """Every recorded run and measurement by name."""
    folder = tmp_path_factory.mktemp("recorded")
    names = sorted(set(chain.from_iterable(RUNS_OF.values())))
    return {name: read_run(recorded(name, folder)) for name in names}


def drawn(runs: dict[str, Run], name: str, *, with_paper: bool = False) -> Drawing:
    row = next(row for row in paper_rows(with_paper=with_paper) if row.name == name)
    with report_style():
        drawing = row.draw(cohorts_of([runs[each] for each in RUNS_OF[name]]))
    assert drawing is not None, name
    return drawing


@pytest.mark.parametrize("with_paper", [False, True])
@pytest.mark.parametrize("name", RUNS_OF)
def test_a_figure_is_drawn_from_real_runs(
    runs: dict[str, Run], name: str, with_paper: bool
) -> None:
    drawing = drawn(runs, name, with_paper=with_paper)
    wanted = PANELS.get(name, 1) + (with_paper and name == "paper-3")
    assert len(drawing.panels) >= wanted, [panel.title for panel in drawing.panels]
    assert drawing.table.rows
    words = drawing.table.csv()
    assert all(runs[each].name in words for each in RUNS_OF[name]), "every run is in the numbers"


def test_fig_4_puts_runs_beside_those_of_their_task_and_base(runs: dict[str, Run]) -> None:
    titles = [panel.title for panel in drawn(runs, "paper-4").panels]
    starts = (
        "countdown with checks",
        "multiplication without checks",
        "multiplication with checks",
    )
    quantities = ("accuracy", "length", "extrapolation")
    assert titles == [f"{start}: {quantity}" for start in starts for quantity in quantities]


def test_evaluated_models_stand_beside_the_papers_open_models(runs: dict[str, Run]) -> None:
    """Fig. 2 and 11 compare models that were measured, not trained here."""
    row = next(row for row in paper_rows(with_paper=True) if row.name == "paper-10")
    with report_style():
        drawing = row.draw(cohorts_of([runs[each] for each in EVALUATED]))
    assert drawing is not None and len(drawing.panels) == 3
    assert all("paper: DeepScaleR" in panel.svg for panel in drawing.panels)
    assert "e3-1.7B" not in drawing.panels[0].svg


def test_the_page_of_evaluated_models_speaks_of_no_training(tmp_path: Path) -> None:
    page = write_report([recorded(name, tmp_path) for name in EVALUATED]).read_text()
    assert "measured · trained at 128 tokens" in page
    assert '<section id="beside">' not in page, "nothing was planned or spent"
    assert " 0 steps" not in page and "not evaluated twice" not in page
    assert '<section id="paper-4">' not in page, "only steps tell whether a model checks"


def test_a_measured_model_beside_runs_has_no_rollouts(tmp_path: Path) -> None:
    names = ("grpo", "masked", "asymmetry-base")
    page = write_report([recorded(name, tmp_path) for name in names])
    words = page.read_text()
    assert "<b>asymmetry-base</b> · measured</li>" in words
    for name in ("beside", "paper-6"):
        (section,) = re.findall(rf'<section id="{name}">.*?</section>', words, re.DOTALL)
        assert "masked" in section and "asymmetry-base" not in section


@pytest.mark.parametrize("name", EVALUATED)
def test_curves_read_off_and_generated_apart_agree(runs: dict[str, Run], name: str) -> None:
    separate = {text(event, "slice"): event for event in runs[name].of("separate")}
    assert separate
    for event in runs[name].of("evaluation"):
        if text(event, "slice") in separate:
            assert not difference_in_errors(event, separate[text(event, "slice")]) > 4.0
    (forced,) = (e for e in runs[name].of("forcing") if text(e, "slice") == "countdown-3")
    tokens = numbers(forced, "mean_tokens")
    assert tokens == sorted(tokens) and tokens[-1] > tokens[0], "waits lengthen completions"


def test_recordings_are_small_and_name_no_machine() -> None:
    files = [path for path in FOLDER.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 6_000_000
    for path in files:
        if path.suffix not in (".parquet", ".safetensors"):
            # An absolute path, but no web address and no token of a text.
            assert not re.search(r"[\"' ]/[a-z]+/", path.read_text()), path


def test_held_out_accuracy_is_that_of_the_recorded_rollouts(runs: dict[str, Run]) -> None:
    """Each kept measurement, counted again from its rollouts, to the sampling of what was kept."""
    run, checked = runs["grpo"], 0
    for event in held_out_steps(run, "all"):
        folder = f"train_v{number(event, 'step'):06.0f}"
        paths = list((run.paths.rollouts_for("evaluate") / folder).glob("*.parquet"))
        groups = [group for path in paths for group in read_groups(path)]
        at = number(event, "budget_tokens")
        solved = [r.marks.solved_at for group in groups for r in group.rollouts]
        for field, budget in ((AT_BUDGET, at), (BEYOND, 2 * at)):
            share = sum(each is not None and each <= budget for each in solved) / len(solved)
            # The first 32 of 96 problems were kept.
            assert abs(share - number(event, field)) < 4 * (0.25 / len(solved)) ** 0.5
        checked += 1
    assert checked == 5, "the base, three measurements within the stage, and its end"


def test_a_stage_begins_where_the_one_before_ended(runs: dict[str, Run]) -> None:
    """Two events a step apart, of one measurement read off at both stages' budgets."""
    run = runs["curriculum"]
    stages = {stage.name: stage for stage in run.training_stages}
    events = held_out_steps(run, "all")
    easy = [event for event in events if event["stage"] == "easy"]
    hard = [event for event in events if event["stage"] == "hard"]
    assert number(hard[0], "step") == number(easy[-1], "step") + 1
    ended = next(e for e in run.of("evaluation") if e["label"] == "easy" and e["slice"] == "all")
    values = {point.budget: point.accuracy for point in points_of(ended)}
    assert number(easy[-1], AT_BUDGET) == values[64]
    assert number(hard[0], AT_BUDGET) == values[stages["hard"].budget_tokens]


def test_the_context_of_attempts_has_its_three_quantities(runs: dict[str, Run]) -> None:
    for name in RUNS_OF["paper-14"]:
        (event,) = runs[name].of("attempt_logprobs")
        attempts = numbers(event, "attempt")
        assert attempts[:2] == [2, 3]
        for field in ("context", "progress", "repeat"):
            values = numbers(event, field)
            assert len(values) == len(attempts) and np.isfinite(values).all()
    rows = drawn(runs, "paper-14").table.rows
    events = [event for name in RUNS_OF["paper-14"] for event in runs[name].of("attempt_logprobs")]
    assert len(rows) == sum(len(numbers(event, "attempt")) for event in events)


def test_attempts_are_counted_over_all_measurements(runs: dict[str, Run]) -> None:
    """As the paper counts them, by a slow count of the texts."""
    run, wrong, totals = runs["grpo"], dict[str, set[str]](), dict[str, list[bool]]()
    paths = list(run.paths.rollouts_for("evaluate").rglob("*.parquet"))
    for path in paths:
        texts = iter(read_texts(path))
        for group in read_groups(path):
            for rollout in group.rollouts:
                words, ends = next(texts).split(), rollout.marks.attempts_at
                parts = zip((0, *ends), ends, strict=False)
                is_wrong = rollout.marks.reward <= 0
                totals.setdefault(group.request.prompt.problem, []).append(is_wrong)
                found = wrong.setdefault(group.request.prompt.problem, set())
                found.update(" ".join(words[a : b - 1]) for a, b in parts if is_wrong)
    expected = sorted(len(wrong[name]) for name, flags in totals.items() if np.mean(flags) >= 0.5)
    facts = facts_of(run)
    assert len(paths) == facts.num_measurements == 5
    assert sorted(facts.unique_attempts) == expected and max(expected) > 5
    assert all(1.5 < value < 3 for _, value in facts.equations)


def test_the_page_of_real_runs_lists_what_it_leaves_out(tmp_path: Path) -> None:
    folders = [recorded(name, tmp_path) for name in ("grpo", "curriculum")]
    page = write_report(folders, with_paper=True).read_text()
    for row in paper_rows(with_paper=True):
        is_drawn = f'<section id="{row.name}">' in page
        assert is_drawn != (f"{row.title} (needs: " in page), row.name
    for name in ("paper-4", "paper-9a", "paper-9b", "paper-10", "paper-16", "rollouts", "ledger"):
        assert f'<section id="{name}">' in page, name


if __name__ == "__main__":
    for figure, names in RUNS_OF.items():
        place = Path(sys.argv[1]) / figure
        print(write_report([recorded(name, place) for name in names], with_paper=True))
