"""Checkpoints travel: from any grid to any, in the background, and training goes on."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from e3mega.checkpoint.convert import export_checkpoint
from e3mega.checkpoint.manifest import newest_complete, read_manifest, verify
from e3mega.plan.paths import RunPaths
from e3mega.spec.schema.layout import LearnerLayout
from tests.checkpoint_cases import saved_tensors
from tests.integration.checkpoint_jobs import NUM_BEFORE
from tests.warm_parent import WarmParent

JOBS = "tests.integration.checkpoint_jobs"
SAVING = LearnerLayout(tp=2, pp=2)
GRIDS = {
    "one": LearnerLayout(),
    "dp2": LearnerLayout(dp=2),
    "tp2-dp2": LearnerLayout(tp=2, dp=2),
    "pp4": LearnerLayout(pp=4),
    "the same": SAVING,
}
INTERLEAVED = LearnerLayout(tp=2, pp=2, chunks_per_stage=2)
UNEVEN = LearnerLayout(pp=2, layers_per_chunk=(1, 3))
EXPERTS = LearnerLayout(pp=2, dp=2, ep=2)
EXPERT_MATRICES = LearnerLayout(tp=2, dp=2, ep=2, expert_tp=2, sequence_parallel=True)
slow = pytest.mark.slow


@pytest.fixture(scope="module")
def saved(warm_parent: WarmParent, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A run saved in the background at TP=2, PP=2, and what it went on to."""
    folder = tmp_path_factory.mktemp("saved")
    ranks = warm_parent.run(
        SAVING, f"{JOBS}:save_and_go_on", folder=str(folder), is_asynchronous=True
    )
    assert not ranks[0]["was_complete"], "it becomes complete only when all have written"
    assert ranks[0]["passed_over"] > 100_000, "what a save's garbage collection need not look at"
    return {**ranks[0], "folder": str(folder)}


@pytest.mark.parametrize("grid", GRIDS)
def test_a_checkpoint_is_loaded_on_any_grid_and_training_goes_on(
    warm_parent: WarmParent, saved: dict[str, Any], tmp_path: Path, grid: str
) -> None:
    ranks = warm_parent.run(
        GRIDS[grid],
        f"{JOBS}:load_and_go_on",
        folder=saved["folder"],
        saved_again=str(tmp_path),
    )
    assert ranks[0]["tensors"] == saved["tensors"], "bit-equal"
    same_state(Path(saved["folder"]), tmp_path)
    assert len(saved["tensors"]) == 4 * 11 + 2
    assert all(rank["steps"] == {float(NUM_BEFORE)} for rank in ranks)
    for found, wanted in zip(ranks[0]["after"], saved["after"], strict=True):
        exact = grid == "the same"
        for name in ("loss", "grad_norm"):
            tolerance = 0.0 if exact else 1e-5
            assert found[name] == pytest.approx(wanted[name], rel=tolerance, abs=0.0), name


def same_state(one: Path, other: Path) -> None:
    """Weights, main weights and both moments of two runs' checkpoints, bit for bit."""
    found, wanted = (saved_tensors(RunPaths(run).checkpoint(NUM_BEFORE)) for run in (other, one))
    assert found.keys() == wanted.keys()
    for moment in ("exp_avg", "exp_avg_sq"):
        moments = [value for name, value in wanted.items() if f".{moment}." in name]
        assert len(moments) == sum("optimizer." not in name for name in wanted)
        assert all(value.any() for value in moments), "they have been moved"
    for name, value in wanted.items():
        assert torch.equal(found[name], value), name


@pytest.mark.parametrize(
    ("family", "saving", "loading"),
    [
        pytest.param("", INTERLEAVED, UNEVEN, id="interleaved-uneven"),
        pytest.param("", INTERLEAVED, LearnerLayout(), id="interleaved-one", marks=slow),
        pytest.param("", INTERLEAVED, LearnerLayout(dp=2), id="interleaved-dp2", marks=slow),
        pytest.param("", UNEVEN, INTERLEAVED, id="uneven-interleaved", marks=slow),
        pytest.param("", UNEVEN, LearnerLayout(tp=2), id="uneven-tp2", marks=slow),
        pytest.param("qwen3-moe-some-dense", EXPERTS, EXPERT_MATRICES, id="ep2-expert-tp2"),
        pytest.param("qwen3-moe-some-dense", EXPERTS, LearnerLayout(), id="ep2-one"),
        pytest.param("qwen3-moe", LearnerLayout(), EXPERTS, id="one-ep2", marks=slow),
        pytest.param(
            "qwen3-moe", EXPERT_MATRICES, LearnerLayout(pp=2), id="expert-tp2-pp2", marks=slow
        ),
        pytest.param(
            "qwen3-moe",
            EXPERT_MATRICES,
            LearnerLayout(dp=2, ep=2),
            id="expert-tp2-dp2-ep2",
            marks=slow,
        ),
    ],
)
def test_stages_and_experts_are_divided_otherwise(
    warm_parent: WarmParent,
    tmp_path: Path,
    family: str,
    saving: LearnerLayout,
    loading: LearnerLayout,
) -> None:
    """Interleaved and uneven stages, experts, and experts whose matrices are divided."""
    before, after = tmp_path / "before", tmp_path / "after"
    saved = warm_parent.run(
        saving, f"{JOBS}:save_and_go_on", folder=str(before), is_asynchronous=True, family=family
    )[0]
    ranks = warm_parent.run(
        loading,
        f"{JOBS}:load_and_go_on",
        folder=str(before),
        saved_again=str(after),
        family=family,
    )
    assert ranks[0]["tensors"] == saved["tensors"], "bit-equal"
    assert all(rank["steps"] == {float(NUM_BEFORE)} for rank in ranks)
    same_state(before, after)
    for found, wanted in zip(ranks[0]["after"], saved["after"], strict=True):
        for name in ("loss", "grad_norm"):
            assert found[name] == pytest.approx(wanted[name], rel=1e-5, abs=0.0), name


def test_moments_are_bit_equal_after_a_journey(
    warm_parent: WarmParent, saved: dict[str, Any], tmp_path: Path
) -> None:
    for name, layout in (("there", LearnerLayout(dp=2)), ("back", SAVING)):
        source = saved["folder"] if name == "there" else str(tmp_path / "there")
        warm_parent.run(
            layout,
            f"{JOBS}:load_and_go_on",
            folder=source,
            saved_again=str(tmp_path / name),
        )
    first = verify(RunPaths(Path(saved["folder"])).checkpoint(NUM_BEFORE))
    again = verify(RunPaths(tmp_path / "back").checkpoint(NUM_BEFORE))
    weights = [name for name in first.files if name.endswith(".distcp")]
    assert len(weights) == 4
    for name in weights:
        assert first.files[name] == again.files[name], "weights, moments and steps, bit for bit"


def test_a_save_in_the_background_holds_what_a_waiting_save_holds(
    warm_parent: WarmParent, saved: dict[str, Any], tmp_path: Path
) -> None:
    waiting = warm_parent.run(
        SAVING, f"{JOBS}:save_and_go_on", folder=str(tmp_path), is_asynchronous=False
    )[0]
    assert waiting["tensors"] == saved["tensors"]
    assert waiting["after"][-1]["loss"] == saved["after"][-1]["loss"], "saving disturbs no step"
    background = verify(RunPaths(Path(saved["folder"])).checkpoint(NUM_BEFORE))
    wanted = verify(RunPaths(tmp_path).checkpoint(NUM_BEFORE))
    for name, facts in wanted.files.items():
        if name.endswith(".distcp"):
            assert background.files[name] == facts


def test_weights_alone_start_another_run(warm_parent: WarmParent, saved: dict[str, Any]) -> None:
    found = warm_parent.run(
        LearnerLayout(pp=2), f"{JOBS}:load_weights_only", folder=saved["folder"]
    )[0]
    assert found["tensors"] == saved["tensors"]
    assert found["steps"] <= {0.0}, "without the moments"


def test_a_checkpoint_says_at_which_temperature_it_was_trained(
    saved: dict[str, Any], tmp_path: Path
) -> None:
    """The plan's 0.9, in the manifest and in the folder that a conversion makes of it."""
    checkpoint = RunPaths(Path(saved["folder"])).checkpoint(NUM_BEFORE)
    (stage,) = read_manifest(checkpoint).lineage.stages
    assert (stage.name, stage.num_steps, stage.temperature) == ("easy", NUM_BEFORE, 0.9)
    export_checkpoint(checkpoint, tmp_path / "hf", lambda num_bytes: None)
    said = json.loads((tmp_path / "hf" / "generation_config.json").read_text())
    assert said["temperature"] == 0.9


def test_a_checkpoint_of_another_run_is_refused(
    warm_parent: WarmParent, saved: dict[str, Any]
) -> None:
    (message,) = warm_parent.run(LearnerLayout(), f"{JOBS}:load_other_run", folder=saved["folder"])
    assert "made by a run with fingerprint 000000000000" in message


def test_a_kill_while_saving_leaves_the_one_before(warm_parent: WarmParent, tmp_path: Path) -> None:
    ranks = warm_parent.run(
        LearnerLayout(tp=2), f"{JOBS}:killed_while_saving", folder=str(tmp_path)
    )
    assert ranks == [False, False]
    found = newest_complete(RunPaths(tmp_path))
    assert found.folder == RunPaths(tmp_path).checkpoint(1)
    assert [each.name for each in found.passed_over] == ["step_000002"]


@pytest.mark.parametrize("is_asynchronous", [True, False])
def test_a_file_that_cannot_be_written_stops_every_rank(
    warm_parent: WarmParent, tmp_path: Path, is_asynchronous: bool
) -> None:
    messages = warm_parent.run(
        LearnerLayout(dp=2),
        f"{JOBS}:cannot_write",
        folder=str(tmp_path),
        is_asynchronous=is_asynchronous,
    )
    assert all("could not be written" in message for message in messages), messages
    assert "Worker failure" in messages[0]


def test_a_save_leaves_no_process_behind(warm_parent: WarmParent, tmp_path: Path) -> None:
    assert warm_parent.run(LearnerLayout(), f"{JOBS}:children", folder=str(tmp_path)) == [[]]
