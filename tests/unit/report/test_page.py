"""The page as a whole: self-contained, escaped, complete, and drawn from whatever is there."""

import base64
import hashlib
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from e3mega.plan.paths import RunPaths
from e3mega.report.cards import Outcome, Piece, ShownRollout, Verdict, cards_html
from e3mega.report.figures import FIGURES
from e3mega.report.page import page_html, write_report
from e3mega.report.picture import write_readme_picture
from e3mega.report.runs import read_run
from tests.data.make_recorded_run import write_recorded_run

HOSTILE = "</pre></script><script>alert(1)</script><img src=x onerror='a()'>\"&"
VOID = {"meta", "link", "input", "br", "img"}


class Outline(HTMLParser):
    """Open tags, identifiers and what the page would load."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.loads: list[str] = []
        self.scripts = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        for key, value in attrs:
            assert not key.startswith("on"), f"{tag} has an event attribute"
            if key == "id":
                self.ids.append(value or "")
            if key in ("src", "href", "xlink:href"):
                self.loads.append(value or "")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes <{self.open[-1:]}>"
        self.open.pop()


def outline(page: str) -> Outline:
    parser = Outline()
    parser.feed(page)
    parser.close()
    assert parser.open == []
    return parser


@pytest.fixture(scope="module")
def page(recorded_run: Path) -> str:
    return write_report([recorded_run]).read_text()


def test_a_complete_run_has_every_figure_and_section(page: str) -> None:
    found = outline(page)
    sections = [*(row.name for row in FIGURES), "rollouts", "ledger", "spec"]
    assert [name for name in found.ids if name in sections] == sections
    # One run has not what the paper's comparisons are drawn from; all else is drawn.
    (left_out,) = re.findall(r'<ul class="missing">(.*?)</ul>', page, flags=re.DOTALL)
    titles = re.findall(r"<li>(.*?) \(needs", left_out)
    assert titles and all(title.startswith("Fig. ") for title in titles)
    assert len(page.encode()) < 3_000_000


def test_nothing_is_loaded_and_no_identifier_is_used_twice(page: str) -> None:
    found = outline(page)
    assert all(load.startswith(("#", "data:")) for load in found.loads)
    assert len(found.ids) == len(set(found.ids))
    assert "url(http" not in page and "@import" not in page


def test_only_the_pages_own_script_may_run(page: str) -> None:
    (script,) = re.findall(r"<script>(.*?)</script>", page, flags=re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]+)"', page)
    assert "default-src 'none'" in policy
    assert f"script-src 'sha256-{digest}'" in policy


def test_the_page_of_a_run_is_the_same_every_time(recorded_run: Path, page: str) -> None:
    assert page_html([read_run(recorded_run)]) == page


def test_twenty_rollouts_of_the_base_each_stage_and_all_outcomes_are_shown(page: str) -> None:
    cards = re.findall(r'data-stage="(\w+)" data-outcome="(\w+)"', page)
    assert len(cards) == 20
    assert {stage for stage, _ in cards} == {"base", "easy", "hard"}
    assert {outcome for _, outcome in cards} == {"correct", "incorrect", "truncated"}


def test_what_a_model_or_a_spec_wrote_is_escaped(tmp_path: Path) -> None:
    run_dir = write_recorded_run(tmp_path / "run", name=HOSTILE, seed=1, with_rollouts=False)
    RunPaths(run_dir).resolved.write_text(f"name: {HOSTILE}  # {HOSTILE}\n")
    with RunPaths(run_dir).metrics("loop").open("a") as file:
        failed = {"time": 2e9, "event": "run_failed", "reason": HOSTILE}
        ledger = {"time": 2e9, "event": "ledger", "version": 1000, HOSTILE: HOSTILE}
        file.write(json.dumps(failed) + "\n" + json.dumps(ledger) + "\n")
    found = outline(write_report([run_dir]).read_text())
    assert found.scripts == 1
    assert all(load.startswith(("#", "data:")) for load in found.loads)


def test_a_hostile_rollout_is_escaped() -> None:
    rollout = ShownRollout(
        run=HOSTILE,
        purpose="training",
        stage=HOSTILE,
        round=1,
        version=1,
        problem=HOSTILE,
        pieces=(Piece(HOSTILE, Verdict.FALSE, is_attempt=True),),
        outcome=Outcome.INCORRECT,
        reward=0.0,
        num_attempts=1,
        num_tokens=9,
        budget_tokens=64,
    )
    found = outline(cards_html([rollout], with_run=True))
    assert found.scripts == 0 and found.loads == []


def test_a_run_that_only_started_names_everything_it_lacks(tmp_path: Path) -> None:
    metrics = RunPaths(tmp_path / "run").metrics("loop")
    metrics.parent.mkdir(parents=True)
    metrics.write_text('{"time": 1.0, "event": "run_started", "name": "a", "seed": 1}\n')
    page = write_report([tmp_path / "run"]).read_text()
    found = outline(page)
    assert not {row.name for row in FIGURES} & set(found.ids)
    assert all(f"{row.title} (needs" in page for row in FIGURES)


def test_missing_and_unknown_numbers_do_not_stop_the_page(
    recorded_run: Path, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    source = RunPaths(recorded_run).metrics("loop").read_text().splitlines()
    kept: list[str] = []
    for place, line in enumerate(source):
        event = json.loads(line)
        keys = [key for key in event if key not in ("event", "time")]
        if keys and place % 3 == 0:
            del event[keys[place % len(keys)]]
        if keys and place % 3 == 1:
            event[keys[place % len(keys)]] = [None, float("nan"), "x"][place % 9 // 3]
        kept.append(json.dumps(event))
    RunPaths(run_dir).metrics("loop").parent.mkdir(parents=True)
    RunPaths(run_dir).metrics("loop").write_text("\n".join(kept) + '\n{"torn')
    outline(write_report([run_dir]).read_text())


def test_runs_are_compared_on_one_page(recorded_run: Path, tmp_path: Path) -> None:
    others = [
        write_recorded_run(
            tmp_path / f"{name}{seed}", name=name, seed=seed, scale=scale, with_rollouts=False
        )
        for name, seed, scale in (("recorded", 2, 1.0), ("weaker", 1, 0.7))
    ]
    copy = tmp_path / "copy"
    shutil.copytree(recorded_run, copy)
    page = write_report([copy, *others]).read_text()
    outline(page)
    assert "recorded (2 seeds), after hard" in page
    assert "weaker, after hard" in page


def test_the_readme_picture_is_a_png(recorded_run: Path, tmp_path: Path) -> None:
    out = write_readme_picture(recorded_run, tmp_path / "picture.png")
    assert out.read_bytes().startswith(b"\x89PNG")
