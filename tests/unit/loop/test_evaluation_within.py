"""Measurements of held-out problems while a stage goes on."""

from pathlib import Path

import pytest

from e3mega.loop.state import read_state
from e3mega.plan.paths import RunPaths
from e3mega.report.runs import read_run
from e3mega.rollout.rows import read_groups
from tests.fakes import Killed, newest_state
from tests.unit.loop.test_controller import batches, events, make_jobs, run, small_plan

WITHIN = (
    "curriculum.stages.easy.exit.steps=5",
    "evaluation.every_steps=2",
    "checkpoint.every_rounds=2",
)


def test_evaluations_within_a_stage_leave_its_training_alone(tmp_path: Path) -> None:
    """The same batches as without them; each of their tokens is in the ledger."""
    plain, _ = make_jobs(small_plan(WITHIN[0], WITHIN[2]), tmp_path / "plain")
    before = run(plain)
    jobs, _ = make_jobs(small_plan(*WITHIN), tmp_path / "within")
    after = run(jobs)
    assert batches(tmp_path / "within") == batches(tmp_path / "plain")
    found = events(tmp_path / "within", "evaluation_within")
    places = [(event["stage"], event["stage_step"]) for event in found if event["slice"] == "all"]
    assert places == [("easy", 2), ("easy", 4)], "at its end the stage is measured anyway"
    assert all(event["training_budget"] == 64 for event in found)
    version = found[0]["version"]
    folder = RunPaths(tmp_path / "within").rollouts_for("evaluate") / f"easy_v{version:06d}"
    groups = [group for path in folder.glob("*.parquet") for group in read_groups(path)]
    assert len(groups) == jobs.plan.stages[1].evaluation.num_problems
    whole = next(event for event in found if event["slice"] == "all")
    solved = [r.marks.solved_at for group in groups for r in group.rollouts]
    accuracy = [sum(at is not None and at <= b for at in solved) / len(solved)
                for b in whole["budgets"]]  # fmt: skip
    assert whole["accuracy"] == pytest.approx(accuracy)
    on_disk = [
        sum(
            len(r.completion.token_ids)
            for path in RunPaths(tmp_path / name).rollouts_for("evaluate").rglob("*.parquet")
            for group in read_groups(path)
            for r in group.rollouts
        )
        for name in ("within", "plain")
    ]
    more = after.ledger.evaluated.tokens - before.ledger.evaluated.tokens
    assert more == on_disk[0] - on_disk[1] > 0
    assert after.ledger.trained == before.ledger.trained


@pytest.mark.parametrize("kill_after", [40, 70, 80, 90])
def test_a_kill_within_such_a_stage_measures_nothing_twice(tmp_path: Path, kill_after: int) -> None:
    plan = small_plan(*WITHIN)
    whole, _ = make_jobs(plan, tmp_path / "whole")
    final = run(whole)
    killed, learner = make_jobs(plan, tmp_path / "killed")
    learner.servers[0].kill_after = kill_after
    with pytest.raises(Killed):
        run(killed)
    resumed, learner = make_jobs(plan, tmp_path / "killed")
    state = read_state(newest_state(resumed.paths))
    learner.version = state.version
    ended = run(resumed, state)
    assert batches(tmp_path / "killed") == batches(tmp_path / "whole")
    assert ended.ledger.generated == final.ledger.generated
    assert ended.ledger.evaluated == final.ledger.evaluated
    runs = [read_run(tmp_path / name) for name in ("killed", "whole")]
    within = [[{**event, "time": 0} for event in each.of("evaluation_within")] for each in runs]
    assert within[0] == within[1] and len(within[0]) == 6
