"""Replaying a real run gives the gradients that it took, and those that others would be."""

from pathlib import Path
from typing import Any

import pytest

from e3mega.checkpoint.convert import export_checkpoint
from e3mega.errors import SpecError
from e3mega.plan.planfile import read_plan
from e3mega.rollout.rows import read_groups
from e3mega.run.replay import losses_of_stages, replay_run, replay_table
from e3mega.spec.schema.layout import LearnerLayout
from tests.e2e.hf_gradients import HfGradients
from tests.e2e.live_run import SETTINGS, Finished
from tests.warm_parent import WarmParent

pytestmark = pytest.mark.e2e

OTHERS = ("nsr", "asymre")
"""On wrong samples alone the one has negative gradients only, the other positive ones only."""
GRIDS = {
    "the run's": None,
    "one rank": LearnerLayout(),
    "two stages": LearnerLayout(pp=2),
}


def request(run_dir: Path) -> dict[str, Any]:
    return {
        name: {stage: loss.model_dump(mode="json") for stage, loss in by_stage.items()}
        for name in OTHERS
        for by_stage in (losses_of_stages(run_dir, name),)
    }


@pytest.mark.parametrize("grid", GRIDS)
def test_the_recorded_norms_come_back_on_every_grid(
    finished: Finished, warm_parent: WarmParent, grid: str
) -> None:
    run_dir = finished.run.paths.run_dir
    layout = GRIDS[grid] or read_plan(finished.run.paths.plan).layout.learner
    case = {"run_dir": str(run_dir), "losses": request(run_dir), "segment": 0}
    steps = warm_parent.run(layout, "tests.e2e.learner_jobs:replayed", timeout_s=400, **case)[0]
    assert steps, "a checkpoint that is followed by a step"
    for step in steps:
        own, *others = step["losses"]
        assert own["name"] == "own" and own["norm"] > 1e-3
        assert own["norm"] == pytest.approx(step["recorded_norm"], rel=1e-5)
        assert own["cosine"] == pytest.approx(1.0, abs=1e-6)
        assert step["is_batch_rebuilt"]
        assert [other["name"] for other in others] == list(OTHERS)


def test_other_losses_have_the_gradients_of_transformers_model(
    finished: Finished, warm_parent: WarmParent, tmp_path: Path
) -> None:
    """Cosine, norms of each sign and the change of entropy, derived a second time."""
    paths, plan = finished.run.paths, read_plan(finished.run.paths.plan)
    case = {"run_dir": str(paths.run_dir), "losses": request(paths.run_dir), "segment": 0}
    steps = warm_parent.run(
        plan.layout.learner, "tests.e2e.learner_jobs:replayed", timeout_s=400, **case
    )[0]
    step = steps[0]
    (stage,) = (stage for stage in plan.stages if stage.name == step["stage"])
    first = min(int(path.stem[5:]) for path in paths.batches.glob(f"{stage.name}/*"))
    number = (step["step"] - 1 - first) // stage.rollout.steps_per_round
    groups = read_groups(paths.round_rows("train", stage.name, number))
    export_checkpoint(paths.checkpoint(step["step"] - 1), tmp_path / "hf", lambda _: None)
    theirs = HfGradients(tmp_path / "hf", groups, stage.generation.temperature)
    coefficient = float(SETTINGS[0].partition("=")[2])
    taken = theirs.of("grpo", coefficient)
    assert step["losses"][0]["norm"] == pytest.approx(float(taken.norm()), rel=1e-4)
    for row in step["losses"][1:]:
        wanted = theirs.measured(row["name"], taken)
        for key in ("norm", "norm_positive", "norm_negative", "cosine", "entropy_change"):
            found = pytest.approx(row[key], rel=1e-3, abs=1e-6)
            assert getattr(wanted, key) == found, (row["name"], key)
        assert wanted.norm > 1e-2 and abs(wanted.entropy_change) > 1e-3


def test_a_loss_that_means_nothing_in_the_stage_is_refused(finished: Finished) -> None:
    with pytest.raises(SpecError, match="a use of the rewards for"):
        losses_of_stages(finished.run.paths.run_dir, "sft")
    with pytest.raises(SpecError, match="which is no file"):
        losses_of_stages(finished.run.paths.run_dir, "grpp")


@pytest.mark.slow
def test_the_command_starts_ranks_of_its_own(finished: Finished) -> None:
    steps = replay_run(finished.run.paths.run_dir, ["nsr"])
    lines = list(replay_table(steps))
    assert lines[1].split()[:2] == ["loss", "|g|"]
    assert [line.split()[0] for line in lines[2:5]] == ["stage", "own", "nsr"]
    assert max(map(len, lines)) <= 80
    assert float(steps[0]["losses"][0]["norm"]) == pytest.approx(  # type: ignore[index]  # JSON
        steps[0]["recorded_norm"], rel=1e-5
    )
