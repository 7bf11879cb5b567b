"""A coupled curriculum that changes its learner's grid within a run, and is killed meanwhile."""

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from datasets import load_dataset

from e3mega.rollout.ledger import Ledger, read_ledger
from tests.e2e.live_run import SETTINGS, Event, LiveRun, LiveRuns, attempts_of, hit, victims

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
SPEC = ("quickstart-small", *SETTINGS, "curriculum.stages.hard.exit.steps=3")
"""A wrong optimizer state shows in the second step after a change of grid, not in the first."""


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveRun]:
    """The run on two tensor-parallel ranks to its end."""
    runs = LiveRuns()
    try:
        run = runs.start(tmp_path_factory.mktemp("plain") / "run", *SPEC)
        status, lines, _ = run.finish()
        assert status == 0, "\n".join(lines)
        yield run
    finally:
        runs.close()


def ledger_of(run: LiveRun) -> Ledger:
    names = {"time", "event", "stage", "version", "stages"}
    event = run.events("ledger")[-1]
    return read_ledger(json.dumps({k: v for k, v in event.items() if k not in names}))


def hard_steps(run: LiveRun) -> list[Event]:
    return [event for event in run.events("step") if event["stage"] == "hard"]


def is_changing_grid(run: LiveRun) -> bool:
    """The easy stage is measured, and the next grid is being entered."""
    return bool(run.events("grid_changed"))


def is_measuring_easy(run: LiveRun) -> bool:
    """The easy stage has ended, and is being measured."""
    finished = [event["stage"] for event in run.events("stage_finished")]
    return "easy" in finished


@pytest.mark.parametrize(
    ("grid", "moment", "victim"),
    [
        ("{tp: 1, dp: 2}", is_changing_grid, "loop"),
        ("{tp: 1, dp: 1}", is_measuring_easy, "server's engine core"),
    ],
    ids=["tp2-to-dp2", "tp2-to-one-rank"],
)
def test_a_killed_transition_goes_on_with_the_losses_of_one_grid(
    live_runs: LiveRuns,
    plain: LiveRun,
    tmp_path: Path,
    grid: str,
    moment: Callable[[LiveRun], bool],
    victim: str,
) -> None:
    run_dir = tmp_path / "run"
    first = live_runs.start(run_dir, *SPEC, f"curriculum.stages.hard.layout.learner={grid}")
    first.wait_for(lambda: moment(first))
    assert not hard_steps(first), "it is killed in the middle"
    hit(dict(victims(first))[victim], signal.SIGKILL)
    status, _, _ = first.finish()
    assert status not in (0, 130)
    last = live_runs.resume(run_dir)
    status, lines, _ = last.finish()
    assert status == 0, "\n".join(lines)
    assert len(attempts_of(run_dir)) == 2

    (decision,), (wanted,) = last.events("budget_decision"), plain.events("budget_decision")
    assert {**decision, "time": 0} == {**wanted, "time": 0}
    for field in ("loss", "grad_norm", "entropy"):
        found, losses = ([e[field] for e in hard_steps(run)] for run in (last, plain))
        assert len(found) == 3
        np.testing.assert_allclose(found, losses, atol=1e-5, rtol=1e-5, err_msg=field)
    assert last.events("grid_changed"), "the ranks of the next grid load the stage's checkpoint"

    ledger, whole = ledger_of(last), ledger_of(plain)
    ledger.check(is_drained=True)
    for kind in ("generated", "truncated", "trained", "evaluated", "discarded", "supervised"):
        assert getattr(ledger, kind) == getattr(whole, kind), kind
    assert ledger.prompts_redrawn == ledger.prompts_lost
    files = sorted(map(str, last.paths.rollouts.rglob("*.parquet")))
    rows = load_dataset("parquet", data_files=files, split="train")
    assert ledger.generated.rollouts == len(rows)
    assert ledger.generated.tokens == sum(len(ids) for ids in rows["token_ids"])
