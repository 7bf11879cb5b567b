"""Losses, their diagnostics and their references are the same on every grid and packing."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from e3mega.plan.paths import RunPaths
from e3mega.spec.schema.layout import LearnerLayout
from tests.loss_cases import options_of
from tests.loss_formulas import FORMULAS
from tests.warm_parent import WarmParent

JOBS = "tests.integration.loss_jobs"
NAMES = sorted(FORMULAS)
LOSSES = [json.loads(options_of(name).model_dump_json()) for name in NAMES]
GRIDS = {
    "tp2": LearnerLayout(tp=2),
    "pp2": LearnerLayout(pp=2),
    "dp2": LearnerLayout(dp=2),
    "tp2 pp2": LearnerLayout(tp=2, pp=2),
}
UNTIMED = ("seconds", "learning_rate")


@pytest.fixture(scope="module")
def one_rank(warm_parent: WarmParent, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = str(tmp_path_factory.mktemp("losses"))
    return warm_parent.run(LearnerLayout(), f"{JOBS}:step_with", losses=LOSSES, folder=folder)[0]


def assert_same(found: list[dict[str, float]], wanted: list[dict[str, float]]) -> None:
    for name, one, other in zip(NAMES, found, wanted, strict=True):
        assert one.keys() == other.keys()
        for key in set(one) - set(UNTIMED):
            assert one[key] == pytest.approx(other[key], rel=1e-5, abs=2e-7), (name, key)


# Together tp and pp say all that each says alone.
ALONE = [pytest.param(grid, marks=pytest.mark.slow) for grid in ("tp2", "pp2")]


@pytest.mark.parametrize("grid", ["dp2", "tp2 pp2", *ALONE])
def test_loss_gradient_and_diagnostics_do_not_depend_on_the_grid(
    warm_parent: WarmParent, one_rank: Any, tmp_path: Path, grid: str
) -> None:
    case = {"losses": LOSSES, "folder": str(tmp_path)}
    ranks = warm_parent.run(GRIDS[grid], f"{JOBS}:step_with", **case)
    assert_same(ranks[0], one_rank)


def test_they_depend_neither_on_micro_batches_nor_on_the_order_of_packing(
    warm_parent: WarmParent, one_rank: Any, tmp_path: Path
) -> None:
    for packed_tokens, order in ((64, None), (600, None), (128, list(reversed(range(12))))):
        case = {"losses": LOSSES, "folder": str(tmp_path)}
        found = warm_parent.run(
            *(LearnerLayout(), f"{JOBS}:step_with"),
            **{**case, "packed_tokens": packed_tokens, "order": order},
        )
        assert_same(found[0], one_rank)


def test_the_diagnostics_add_up(one_rank: Any) -> None:
    grpo = one_rank[NAMES.index("grpo")]
    assert grpo["tokens_positive_frac"] + grpo["tokens_negative_frac"] == pytest.approx(1.0)
    policy = grpo["loss_positive"] + grpo["loss_negative"]
    assert grpo["loss"] == pytest.approx(policy + 0.001 * grpo["kl"], rel=1e-5)
    assert grpo["advantage_positive"] > 0 > grpo["advantage_negative"]
    # The whole gradient is the sum of both signs' and of the KL term's.
    both = grpo["grad_norm_positive"] + grpo["grad_norm_negative"]
    assert 0 < grpo["grad_norm"] < 1.01 * both
    assert -1 < grpo["sign_cosine"] < 1
    assert 0 < grpo["ratio_p01"] < grpo["ratio_p50"] < grpo["ratio_p99"] <= grpo["ratio_max"]
    assert grpo["kl"] > 0, "the policy is away from the reference"


@pytest.mark.parametrize("beta", [1.0, 0.2])
def test_nthr_selects_the_tokens_of_its_formula(warm_parent: WarmParent, beta: float) -> None:
    (wanted,) = warm_parent.run(LearnerLayout(), f"{JOBS}:nthr", beta=beta)
    factors, brute = wanted
    np.testing.assert_array_equal(factors, brute)
    if beta == 1.0:
        assert 0 < (factors == 0).sum() < factors.size / 2
    for layout in GRIDS.values():
        ranks = [own for own, _ in warm_parent.run(layout, f"{JOBS}:nthr", beta=beta)]
        last = [own for own in ranks if own is not None]
        stacked = last[:1] if layout.dp == 1 else last
        for rank, own in enumerate(stacked):
            np.testing.assert_array_equal(own, factors[rank :: layout.dp])


@pytest.fixture(scope="module")
def straight(warm_parent: WarmParent, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = str(tmp_path_factory.mktemp("straight"))
    return warm_parent.run(LearnerLayout(), f"{JOBS}:reference", folder=folder)[0]


@pytest.fixture(scope="module")
def begun(warm_parent: WarmParent, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """The first rounds on two tp ranks: their folder and their KL."""
    folder = tmp_path_factory.mktemp("begun")
    ranks = warm_parent.run(LearnerLayout(tp=2), f"{JOBS}:reference_first", folder=str(folder))
    return folder, ranks[0]


def test_references_stay_move_and_old_ones_are_removed(straight: dict[str, Any]) -> None:
    for name, kind in straight.items():
        assert kind["changed"] and kind["same"], name
        assert kind["kl"][0] == 0.0, "the first round is at the reference"
        assert all(x > 0 for x in kind["kl"][1:]), name
    assert straight["start"]["kl"] == straight["stage"]["kl"], "the stage is the run's first"
    assert straight["start"]["kl"] == sorted(straight["start"]["kl"]), "it drifts away"
    assert straight["moving"]["kl"][2] < straight["stage"]["kl"][2], "half the way at step 2"
    assert straight["start"]["left"] == ["start"]
    assert straight["stage"]["left"] == ["easy_000000"]
    # From the checkpoint at step 4 it moves from that of step 2; that of step 6 is in use.
    assert straight["moving"]["left"] == ["easy_000002", "easy_000004", "easy_000006"]


@pytest.mark.parametrize("grid", ["dp2", "tp2 pp2"])
def test_references_go_on_on_another_grid(
    *, warm_parent: WarmParent, straight: Any, begun: tuple[Path, Any], tmp_path: Path, grid: str
) -> None:
    folder, first = begun
    shutil.copytree(folder, tmp_path / "run")
    case = {"folder": str(tmp_path / "run")}
    then = warm_parent.run(GRIDS[grid], f"{JOBS}:reference_then", **case)[0]
    for kind, found in straight.items():
        assert first[kind] + then[kind] == pytest.approx(found["kl"], rel=2e-5, abs=1e-9), kind


def test_a_run_behind_shared_stages_makes_the_first_weights_again(
    *, warm_parent: WarmParent, straight: Any, begun: tuple[Path, Any], tmp_path: Path
) -> None:
    """The stages that it shares compared with nothing, so their run kept no such copy."""
    folder, first = begun
    shutil.copytree(folder, tmp_path / "run")
    shutil.rmtree(RunPaths(tmp_path / "run" / "start").reference("start"))
    case = {"folder": str(tmp_path / "run")}
    then = warm_parent.run(LearnerLayout(), f"{JOBS}:reference_behind", **case)[0]
    assert first["start"] + then == pytest.approx(straight["start"]["kl"], rel=2e-5, abs=1e-9)
