"""The learner gives the same numbers on every rank grid, and transformers' numbers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from e3mega.families.registry import weights
from e3mega.spec.schema.layout import LearnerLayout, Recompute
from tests.every_grid import every_grid
from tests.family_cases import family_model
from tests.learner_cases import tiny_model
from tests.warm_parent import WarmParent

JOBS = "tests.integration.grid_jobs"
SUPERVISED = {"advantage": {"kind": "constant"}, "ratio": {"kind": "none"}}
POLICY = {
    "ratio": {"kind": "token", "clip_low": 0.05, "clip_high": 0.05, "dual_clip": 3.0},
    "entropy": {"coefficient": 0.01},
    "correction": {"kind": "truncated"},
}
GRIDS = {
    "tp2": LearnerLayout(tp=2),
    "pp2": LearnerLayout(pp=2),
    "dp2": LearnerLayout(dp=2),
    "tp2-pp2": LearnerLayout(tp=2, pp=2),
}
MORE_GRIDS = {
    "tp2-sequence-parallel": LearnerLayout(tp=2, sequence_parallel=True),
    "pp2-uneven": LearnerLayout(pp=2, layers_per_chunk=(1, 3)),
    "pp2-interleaved": LearnerLayout(pp=2, chunks_per_stage=2),
    "tp2-pp2-all": LearnerLayout(
        tp=2,
        pp=2,
        sequence_parallel=True,
        chunks_per_stage=2,
        layers_per_chunk=(1, 1, 1, 1),
        recompute=Recompute.FULL,
    ),
    "cp2": LearnerLayout(cp=2),
    "tp2-cp2": LearnerLayout(tp=2, cp=2, sequence_parallel=True),
    "recomputed-attention": LearnerLayout(recompute=Recompute.ATTENTION),
    "dp4-overlapped": LearnerLayout(dp=4, overlap_grad_reduce=True, overlap_param_gather=True),
}
EXPERT_GRIDS = {
    "one": LearnerLayout(),
    "dp2-ep2": LearnerLayout(dp=2, ep=2),
    "pp2-dp2-ep2": LearnerLayout(pp=2, dp=2, ep=2),
    "tp2-dp2-ep2-expert-tp2": LearnerLayout(tp=2, dp=2, ep=2, expert_tp=2, sequence_parallel=True),
}
grids = pytest.mark.parametrize("grid", GRIDS)


@pytest.fixture(scope="module")
def one_rank(warm_parent: WarmParent) -> dict[str, Any]:
    """Twenty supervised steps and six policy steps on one rank."""
    train = f"{JOBS}:train"
    layout = LearnerLayout()
    return {
        "supervised": warm_parent.run(layout, train, loss=SUPERVISED, num_steps=20)[0],
        "policy": warm_parent.run(layout, train, loss=POLICY, num_steps=6, steps_per_round=3)[0],
    }


@pytest.mark.parametrize("grid", [*GRIDS, *MORE_GRIDS])
def test_twenty_steps_have_the_loss_of_one_rank(
    warm_parent: WarmParent, one_rank: dict[str, Any], grid: str
) -> None:
    layout = {**GRIDS, **MORE_GRIDS}[grid]
    ranks = warm_parent.run(layout, f"{JOBS}:train", loss=SUPERVISED, num_steps=20)
    for rank in ranks:
        assert _same(rank, ranks[0]), "every rank tells the same metrics"
    for found, wanted in zip(ranks[0]["steps"], one_rank["supervised"]["steps"], strict=True):
        for name in ("loss", "grad_norm", "entropy", "entropy_correct", "entropy_incorrect"):
            assert found[name] == pytest.approx(wanted[name], rel=1e-5), (name, found, wanted)
        assert found["tokens"] == wanted["tokens"]
        assert found["learning_rate"] == wanted["learning_rate"]
    losses = [step["loss"] for step in ranks[0]["steps"]]
    assert losses[0] > 4.0, "a random start is worse than guessing"
    assert min(losses) < losses[0] - 0.1, "it learns the tokens' frequencies"


@pytest.fixture(scope="module")
def torch_steps(warm_parent: WarmParent) -> dict[str, list[dict[str, float]]]:
    """Twenty steps of transformers and torch for each family."""
    loop = "tests.integration.torch_loop:train"
    return {
        family: warm_parent.run(LearnerLayout(), loop, num_steps=20, family=family)[0]
        for family in ("qwen3-tied", "qwen2-linear", "llama", "qwen3-moe")
    }


@pytest.mark.parametrize(
    ("family", "layout"),
    [
        pytest.param("qwen3-tied", GRIDS["tp2-pp2"], id="qwen3-tied-tp2-pp2"),
        pytest.param("qwen2-linear", MORE_GRIDS["tp2-sequence-parallel"], id="qwen2-tp2"),
        pytest.param("llama", MORE_GRIDS["pp2-interleaved"], id="llama-pp2"),
        *(
            pytest.param("qwen3-moe", layout, id=f"qwen3-moe-{name}")
            for name, layout in EXPERT_GRIDS.items()
        ),
        *(
            pytest.param(family, layout, id=f"{family}-every-{name}", marks=pytest.mark.slow)
            for family in ("qwen3-tied", "qwen3-moe")
            for name, layout in every_grid(family_model(family)).items()
        ),
    ],
)
def test_twenty_steps_have_the_loss_of_transformers_and_torch(
    warm_parent: WarmParent,
    torch_steps: dict[str, list[dict[str, float]]],
    family: str,
    layout: LearnerLayout,
) -> None:
    job: dict[str, Any] = {"loss": SUPERVISED, "num_steps": 20, "family": family}
    job["num_bins_multiple"] = 3 if layout.dp == 3 else 4
    found = warm_parent.run(layout, f"{JOBS}:train", **job)[0]["steps"]
    for step, (own, other) in enumerate(zip(found, torch_steps[family], strict=True)):
        for name in ("loss", "grad_norm"):
            assert own[name] == pytest.approx(other[name], rel=1e-5), (step, name)


def _same(rank: dict[str, Any], other: dict[str, Any]) -> bool:
    """Equal metrics but for the seconds, which each rank measures."""

    def timeless(steps: list[dict[str, float]]) -> list[dict[str, float]]:
        return [{**step, "seconds": 0.0} for step in steps]

    return timeless(rank["steps"]) == timeless(other["steps"])


@grids
def test_a_clipped_and_corrected_loss_does_not_depend_on_the_grid(
    warm_parent: WarmParent, one_rank: dict[str, Any], grid: str
) -> None:
    found = warm_parent.run(
        GRIDS[grid], f"{JOBS}:train", loss=POLICY, num_steps=6, steps_per_round=3
    )[0]["steps"]
    wanted = one_rank["policy"]["steps"]
    for step, other in zip(found, wanted, strict=True):
        assert step["loss"] == pytest.approx(other["loss"], rel=1e-5, abs=1e-5)
        assert step["grad_norm"] == pytest.approx(other["grad_norm"], rel=1e-4)
        assert step["ratio_max"] == pytest.approx(other["ratio_max"], rel=1e-4)
        assert step["clip_frac"] == pytest.approx(other["clip_frac"], abs=0.01)
    assert found[0]["ratio_max"] == pytest.approx(1.0, abs=1e-5)
    assert max(step["clip_frac"] for step in wanted) > 0.05, "the clip is at work"


def test_overlapped_communication_changes_no_bit(warm_parent: WarmParent) -> None:
    """Also of what is read between rounds, before the next forward pass gathers it."""
    update = {"overlap_grad_reduce": True, "overlap_param_gather": True}
    plain, overlapped = (
        warm_parent.run(layout, f"{JOBS}:train", loss=POLICY, num_steps=6, steps_per_round=3)
        for layout in (GRIDS["dp2"], GRIDS["dp2"].model_copy(update=update))
    )
    assert [rank["digest"] for rank in plain] == [rank["digest"] for rank in overlapped]


def test_the_same_grid_gives_the_same_bits_twice(warm_parent: WarmParent) -> None:
    first, second = (
        warm_parent.run(GRIDS["tp2"], f"{JOBS}:train", loss=POLICY, num_steps=6, steps_per_round=3)
        for _ in range(2)
    )
    assert [rank["digest"] for rank in first] == [rank["digest"] for rank in second]
    assert all(_same(rank, other) for rank, other in zip(first, second, strict=True))


def test_packing_changes_neither_loss_nor_gradient(warm_parent: WarmParent) -> None:
    layout = LearnerLayout()
    loose = warm_parent.run(layout, f"{JOBS}:one_step", packed_tokens=46)[0]
    for packed_tokens in (128, 500):
        tight = warm_parent.run(layout, f"{JOBS}:one_step", packed_tokens=packed_tokens)[0]
        assert tight["loss"] == pytest.approx(loose["loss"], rel=1e-6)
        assert tight["grad_norm"] == pytest.approx(loose["grad_norm"], rel=1e-5)


def test_no_gradient_flows_into_another_sequence_of_the_bin(warm_parent: WarmParent) -> None:
    own, other = warm_parent.run(LearnerLayout(), f"{JOBS}:leak")[0]
    assert own > 1e-4
    assert other == 0.0


@pytest.mark.parametrize("ties_embeddings", [True, False])
def test_the_weight_source_gives_every_grid_the_same_hf_tensors(
    warm_parent: WarmParent, ties_embeddings: bool
) -> None:
    def stream(layout: LearnerLayout) -> list[list[tuple[str, Any]]]:
        return warm_parent.run(layout, f"{JOBS}:stream", ties_embeddings=ties_embeddings)

    (wanted,) = stream(LearnerLayout())
    table = weights(tiny_model(ties_embeddings=ties_embeddings))
    assert [name for name, _ in wanted] == [t.name for weight in table for t in weight.hf]
    for layout in (GRIDS["tp2"], LearnerLayout(tp=2, pp=2, dp=1), GRIDS["dp2"]):
        main, *others = stream(layout)
        for (name, value), (other_name, other) in zip(main, wanted, strict=True):
            assert name == other_name
            assert np.array_equal(value, other), name
        for rank in others:
            assert all(value is None for _, value in rank)


@pytest.mark.parametrize("ties_embeddings", [True, False])
def test_log_probabilities_are_those_of_transformers(
    warm_parent: WarmParent, tmp_path: Path, ties_embeddings: bool
) -> None:
    case = {"folder": str(tmp_path), "ties_embeddings": ties_embeddings}
    wanted_NT = warm_parent.run(LearnerLayout(), f"{JOBS}:write_hf_model", **case)[0]
    assert wanted_NT.min() < -5, "the model is not uniform"
    for layout in (LearnerLayout(), LearnerLayout(tp=2, dp=2), GRIDS["tp2-pp2"]):
        ranks = warm_parent.run(layout, f"{JOBS}:score_hf_model", **case)
        np.testing.assert_allclose(ranks[0], wanted_NT, atol=1e-4, rtol=0)
        assert all(rank is None for rank in ranks[1:])


def test_a_loss_that_is_not_finite_stops_every_rank(warm_parent: WarmParent) -> None:
    messages = warm_parent.run(GRIDS["tp2-pp2"], f"{JOBS}:broken")
    assert all("the loss is" in message for message in messages), messages
