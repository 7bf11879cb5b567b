"""The page of a real run, a quickstart that ``tests.data.record_run`` kept."""

import pytest

from e3mega.plan.paths import RunPaths
from e3mega.report.accuracy import points_of
from e3mega.report.canvas import report_style
from e3mega.report.drawing import FigureRow
from e3mega.report.figures import FIGURES
from e3mega.report.page import page_html
from e3mega.report.runs import Run, cohorts_of, number, read_run
from e3mega.rollout.rows import read_groups
from tests.data.record_run import RECORDED, recorded_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return read_run(recorded_run(tmp_path_factory.mktemp("recorded") / "run"))


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


def test_the_recording_is_small_and_names_no_machine() -> None:
    files = [path for path in RECORDED.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 5_000_000
    text = RunPaths(RECORDED).metrics("loop").read_text()
    assert "/home/" not in text and "/tmp/" not in text
