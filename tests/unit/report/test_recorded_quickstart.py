"""The page of a real quickstart that ``tests.data.record_runs`` kept."""

import pytest

from e3mega.report.accuracy import points_of
from e3mega.report.canvas import report_style
from e3mega.report.drawing import FigureRow
from e3mega.report.figures import FIGURES
from e3mega.report.ledger import ledger_html, ledger_rows
from e3mega.report.page import page_html
from e3mega.report.runs import Run, cohorts_of, number, read_run
from e3mega.rollout.ledger import Ledger
from e3mega.rollout.rows import read_groups
from tests.data.recorded_runs import recorded


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return read_run(recorded("quickstart", tmp_path_factory.mktemp("recorded")))


@pytest.mark.parametrize("row", FIGURES, ids=lambda row: row.name)
def test_a_figure_is_drawn_from_a_real_run(run: Run, row: FigureRow) -> None:
    with report_style():
        drawing = row.draw(cohorts_of([run]))
    assert drawing is not None and drawing.panels and drawing.table.rows


def test_the_page_shows_twenty_rollouts_and_the_accuracy_recorded(run: Run) -> None:
    page = page_html([run])
    assert page.count('<article class="card ') == 20
    (end,) = (
        event
        for event in run.of("evaluation")
        if (event["label"], event["slice"]) == ("hard", "all")
    )
    (accuracy,) = (point.accuracy for point in points_of(end) if point.budget == 128)
    assert f"{100 * accuracy:.1f}%" in page


def test_the_rewards_drawn_are_those_of_the_rollouts_kept(run: Run) -> None:
    """Every round of the quickstart's RL stages is one step."""
    steps = {
        (event["stage"], number(event, "round")): number(event, "reward_mean")
        for event in run.of("step")
        if event["mode"] == "rl"
    }
    checked = 0
    for stage in ("easy", "hard"):
        for path in sorted((run.paths.rollouts_for("train") / stage).glob("*.parquet")):
            rewards = [r.marks.reward for group in read_groups(path) for r in group.rollouts]
            place = (stage, float(path.stem.removeprefix("round_")))
            assert steps[place] == pytest.approx(sum(rewards) / len(rewards), abs=1e-9)
            checked += 1
    assert checked == 8


def test_a_run_without_a_kl_term_has_no_figure_of_divergence(run: Run) -> None:
    """Its steps record a divergence of 0."""
    page = page_html([run])
    assert '<section id="paper-9b">' in page and '<section id="paper-13">' not in page
    assert "(needs: steps with a KL term)" in page


def test_the_ledger_has_a_row_a_stage_that_add_up_to_the_run(run: Run) -> None:
    *stages, (name, whole) = ledger_rows(run.of("ledger")[-1])
    assert [stage for stage, _ in stages] == ["warmup", "easy", "hard"] and name == "run"
    assert sum((ledger for _, ledger in stages), Ledger()) == whole
    whole.check(is_drained=True)
    html = ledger_html(cohorts_of([run]))
    assert html.count("<tr") == 5
    for amount in (whole.generated, whole.truncated, whole.trained, whole.supervised):
        assert f"{amount.tokens:,}<span> {amount.rollouts:,}</span>" in html
