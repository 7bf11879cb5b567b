"""Every family imported on every grid gives transformers' numbers and comes back bit for bit."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from e3mega.plan.topology import rank_grid
from e3mega.spec.schema.layout import LearnerLayout
from tests.family_cases import CASES
from tests.warm_parent import WarmParent

JOBS = "tests.integration.family_jobs"
DENSE = [name for name in CASES if "moe" not in name]
EXPERTS = [name for name in CASES if "moe" in name]
SPLIT = LearnerLayout(tp=2, sequence_parallel=True)


@pytest.fixture(scope="module")
def folders(
    warm_parent: WarmParent, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    """A folder for each case, and transformers' log-probabilities and logits."""
    root = tmp_path_factory.mktemp("families")
    job = {"root": str(root), "names": list(CASES)}
    return root, warm_parent.run(LearnerLayout(), f"{JOBS}:write", **job)[0]


slow = pytest.mark.slow


@pytest.mark.parametrize(
    ("layout", "names"),
    [
        pytest.param(LearnerLayout(), [*DENSE, *EXPERTS], id="one"),
        pytest.param(LearnerLayout(tp=2, pp=2), DENSE, id="tp2-pp2"),
        pytest.param(LearnerLayout(pp=2, dp=2, ep=2), EXPERTS, id="pp2-ep2"),
        pytest.param(
            SPLIT.model_copy(update={"dp": 2, "ep": 2, "expert_tp": 2}),
            EXPERTS,
            id="tp2-ep2-expert-tp2",
        ),
        pytest.param(LearnerLayout(tp=2), DENSE, id="tp2", marks=slow),
        pytest.param(LearnerLayout(pp=2), [*DENSE, *EXPERTS], id="pp2", marks=slow),
        pytest.param(SPLIT, [*DENSE, *EXPERTS], id="tp2-sequence-parallel", marks=slow),
        pytest.param(SPLIT.model_copy(update={"pp": 2}), EXPERTS, id="tp2-pp2-experts", marks=slow),
        pytest.param(SPLIT.model_copy(update={"ep": 2}), EXPERTS, id="tp2-ep2", marks=slow),
        pytest.param(
            SPLIT.model_copy(update={"ep": 2, "pp": 2}), EXPERTS, id="tp2-pp2-ep2", marks=slow
        ),
        pytest.param(LearnerLayout(dp=2, ep=2), EXPERTS, id="ep2", marks=slow),
    ],
)
def test_a_family_has_transformers_numbers_and_comes_back_in_bits(
    warm_parent: WarmParent,
    folders: tuple[Path, dict[str, Any]],
    layout: LearnerLayout,
    names: list[str],
) -> None:
    root, wanted = folders
    ranks = warm_parent.run(layout, f"{JOBS}:compare", root=str(root), names=names)
    for name in names:
        logprobs_NT, logits_NTV = wanted[name]
        assert logprobs_NT.min() < -5, "the model is not uniform"
        scores_NT = ranks[0][name][0]
        np.testing.assert_allclose(scores_NT, logprobs_NT, atol=1e-4, rtol=0, err_msg=name)
        for place, rank in zip(rank_grid(layout), ranks, strict=True):
            _, logits, differing = rank[name]
            assert not differing, f"{name}: {differing[:5]} came back with other bits"
            if place.pp_rank < layout.pp - 1:
                assert not logits, "the last stage has the logits"
                continue
            own_MTV = logits_NTV[place.dp_rank :: layout.dp]
            is_real_MT = own_MTV.any(-1)
            found_MTV = np.stack(logits)
            assert is_real_MT.sum() > 50
            np.testing.assert_allclose(
                found_MTV[is_real_MT], own_MTV[is_real_MT], atol=1e-4, rtol=0, err_msg=name
            )
