"""AdamW as Megatron groups it: decay, clipping, moments between stages, finite, same bits."""

import math
from pathlib import Path
from typing import Any

import pytest

from e3mega.spec.schema.layout import LearnerLayout
from tests.warm_parent import WarmParent

JOBS = "tests.integration.optimizer_jobs"
SPOILT = "decoder.layers.1.mlp.linear_fc2.weight"
TP2_PP2 = LearnerLayout(tp=2, pp=2)


@pytest.mark.parametrize("layout", [LearnerLayout(), LearnerLayout(dp=2)], ids=["one", "dp2"])
@pytest.mark.parametrize(
    ("family", "num_kept"), [("qwen3-tied", 4 * 4 + 1), ("qwen2-linear", 4 * 3 + 1)]
)
def test_matrices_decay_and_norms_and_biases_do_not(
    warm_parent: WarmParent, layout: LearnerLayout, family: str, num_kept: int
) -> None:
    """Norms before matrices and of Qwen3's heads, the bias of Qwen2's, and the last norm."""
    factors = warm_parent.run(layout, f"{JOBS}:decay", family=family)[0]
    kept = {name for name in factors if "norm" in name or name.endswith(".bias")}
    assert len(kept) == num_kept
    for name, factor in factors.items():
        wanted = 1.0 if name in kept else 1.0 - 0.1 * 0.5
        assert factor == pytest.approx(wanted, rel=1e-6), name


@pytest.mark.parametrize("layout", [LearnerLayout(), TP2_PP2], ids=["one", "tp2-pp2"])
def test_a_gradient_is_clipped_to_its_norm_over_all_ranks(
    warm_parent: WarmParent, layout: LearnerLayout
) -> None:
    for clip_grad_norm in (0.5, 1e6):
        ranks = warm_parent.run(layout, f"{JOBS}:clip", clip_grad_norm=clip_grad_norm)
        norm = ranks[0][0]
        assert 1.0 < norm < 1e5, "the two limits are below and above it"
        if layout.tp == 1:
            held = math.sqrt(ranks[0][1])
            assert held == pytest.approx(min(norm, clip_grad_norm), rel=1e-5)


def test_a_stage_that_resets_moments_trains_as_a_new_optimizer(warm_parent: WarmParent) -> None:
    for layout in (LearnerLayout(), LearnerLayout(dp=2)):
        reset = warm_parent.run(layout, f"{JOBS}:second_stage", moments="reset")[0]
        assert reset["second"] == reset["fresh"]
    carry = warm_parent.run(LearnerLayout(), f"{JOBS}:second_stage", moments="carry")[0]
    assert carry["second"] != carry["fresh"]


@pytest.mark.parametrize("value", ["inf", "nan"])
@pytest.mark.parametrize(
    "name", ["decoder.layers.3.mlp.linear_fc2.weight", "embedding.word_embeddings.weight"]
)
def test_a_gradient_that_is_not_finite_is_named_on_every_rank(
    warm_parent: WarmParent, name: str, value: str
) -> None:
    layout = LearnerLayout(pp=2, dp=2)
    messages = warm_parent.run(layout, f"{JOBS}:burst", name=name, value=float(value))
    assert len(set(messages)) == 1
    assert f"the gradient of {name} is not finite" in messages[0]
    assert "stage easy, step 0" in messages[0]


def test_weights_that_are_not_finite_never_become_the_newest_checkpoint(
    warm_parent: WarmParent, tmp_path: Path
) -> None:
    """A run would go on from it, and from no other, for ever."""
    message = said_of_spoilt_weights(warm_parent, tmp_path, "checkpoint")
    assert f"no checkpoint of version 3 is taken, for {SPOILT} is not finite" in message
    assert not any(tmp_path.iterdir())


def test_weights_that_are_not_finite_are_not_sent(warm_parent: WarmParent, tmp_path: Path) -> None:
    """No server is blamed for what it would answer with."""
    message = said_of_spoilt_weights(warm_parent, tmp_path, "sync")
    assert f"the weights of version 3 are not sent, for {SPOILT} is not finite" in message


def said_of_spoilt_weights(warm_parent: WarmParent, folder: Path, kind: str) -> str:
    """What every rank says to a command after a weight of one became NaN."""
    layout, values = LearnerLayout(pp=2, dp=2), {"folder": str(folder), "kind": kind}
    (message,) = set(warm_parent.run(layout, f"{JOBS}:spoilt", name=SPOILT, **values))
    return message


@pytest.mark.parametrize(
    "grid",
    [
        {"tp": 2, "dp": 2},
        pytest.param({"tp": 2, "pp": 2}, marks=pytest.mark.slow),
        pytest.param({"dp": 4}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_four_ranks_of_two_threads_give_the_same_bits_twice(
    warm_parent: WarmParent, grid: dict[str, Any]
) -> None:
    """One bit of one rank's weights would be seen, and both threads of each rank work."""
    layout = LearnerLayout(**grid, threads_per_rank=2, is_deterministic=True)
    first, second, nudged = (
        warm_parent.run(layout, f"{JOBS}:wide", is_nudged=is_nudged)
        for is_nudged in (False, False, True)
    )
    digests = [rank["digest"] for rank in first]
    assert digests == [rank["digest"] for rank in second]
    assert [rank["losses"] for rank in first] == [rank["losses"] for rank in second]
    assert [rank["digest"] for rank in nudged] != digests
    assert len(set(digests)) == layout.tp * layout.pp, "data-parallel ranks hold the same weights"
    assert [rank["busy_threads"] for rank in first] == [2] * 4
