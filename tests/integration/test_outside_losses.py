"""The losses equal those of TRL's and verl's own code on the same tensors."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from e3mega.objective.options import LossOptions
from tests.loss_cases import computed
from tests.loss_formulas import BUDGET, Case, random_case
from tests.outside.folders import CHECKOUT, NotInstallableError, installed

TRL = ["trl==1.16.0", "accelerate==1.15.0"]
VERL = ["verl==0.9.1", "tensordict==0.15.3", "ray==2.60.0", "codetiming==1.4.0"]
VERL += ["hydra-core==1.3.8", "msgpack==1.2.4", "pyvers==0.2.3", "orjson==3.13.0"]
CASE = random_case(0)
KL = {"coefficient": 0.04}

# TRL's settings, and the parts of ours that say the same
TRL_LOSSES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "grpo": (
        {"loss_type": "grpo", "beta": 0.04},
        {"reduction": {"kind": "sequence_mean"}, "kl": KL},
    ),
    "bnpo": ({"loss_type": "bnpo"}, {}),
    "dr_grpo": (
        {"loss_type": "dr_grpo", "max_completion_length": BUDGET},
        {"advantage": {"kind": "group_mean"}, "reduction": {"kind": "budget_length"}},
    ),
    "dapo": (
        {"loss_type": "dapo", "epsilon_high": 0.28},
        {"ratio": {"kind": "token", "clip_high": 0.28}},
    ),
    "gspo": (
        {"loss_type": "grpo", "level": "sequence", "epsilon_low": 3e-4, "epsilon_high": 4e-4},
        {"ratio": {"kind": "sequence"}, "reduction": {"kind": "sequence_mean"}},
    ),
    "cispo": (
        {"loss_type": "cispo", "epsilon_high": 1.1},
        {"ratio": {"kind": "truncated", "positive": {"max": 1.1}, "negative": {"max": 1.1}}},
    ),
    "sapo": (
        {"loss_type": "sapo"},
        {"ratio": {"kind": "soft_gate"}, "reduction": {"kind": "sequence_mean"}},
    ),
    "two-sided clip": (
        {"loss_type": "dapo", "delta": 1.3},
        {"ratio": {"kind": "token", "dual_clip": 1.3}},
    ),
}
VERL_LOSSES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "grpo with dual clip and KL": (
        {"estimator": "grpo", "policy": "vanilla", "clip_ratio_c": 1.3, "kl": 0.04},
        {"ratio": {"kind": "token", "dual_clip": 1.3}, "kl": KL},
    ),
    "rloo advantages": (
        {"estimator": "rloo", "policy": "vanilla"},
        {"advantage": {"kind": "leave_one_out"}},
    ),
    "opo advantages": (
        {"estimator": "opo", "policy": "vanilla"},
        {"advantage": {"kind": "length_weighted"}},
    ),
    "reinforce++ advantages": (
        {"estimator": "reinforce_plus_plus", "policy": "vanilla"},
        {"advantage": {"kind": "batch_whitened"}},
    ),
    "reinforce++ advantages over a baseline": (
        {"estimator": "reinforce_plus_plus_baseline", "policy": "vanilla"},
        {"advantage": {"kind": "batch_whitened", "baseline": "group_mean"}},
    ),
    "gspo": (
        {
            **{"estimator": "grpo", "policy": "gspo", "mean": "seq-mean-token-mean"},
            **{"clip_ratio_low": 3e-4, "clip_ratio_high": 4e-4},
        },
        {"ratio": {"kind": "sequence"}, "reduction": {"kind": "sequence_mean"}},
    ),
    "sapo": (
        {"estimator": "grpo", "policy": "sapo", "mean": "seq-mean-token-mean"},
        {"ratio": {"kind": "soft_gate"}, "reduction": {"kind": "sequence_mean"}},
    ),
    "cispo": (
        {"estimator": "grpo", "policy": "cispo", "clip_ratio_low": 0.1, "clip_ratio_high": 0.1},
        {
            "ratio": {
                **{"kind": "truncated"},
                **{"positive": {"min": 0.9, "max": 1.1}, "negative": {"min": 0.9, "max": 1.1}},
            }
        },
    ),
}


def rows(values: list[list[np.ndarray]]) -> list[list[float]]:
    """Samples one below the other, padded with 0."""
    flat = [x for row in values for x in row]
    return [[*x.tolist(), *[0.0] * (BUDGET - len(x))] for x in flat]


def outside_case(case: Case, settings: dict[str, Any], advantages: list[float]) -> dict[str, Any]:
    """A case as the programs read it."""
    ones = [[np.ones(len(x)) for x in row] for row in case.logp]
    return {
        "settings": settings,
        "rewards": [r for row in case.rewards for r in row],
        "groups": [g for g, row in enumerate(case.rewards) for _ in row],
        "advantages": advantages,
        "rows": {
            "logprobs": rows(case.logp),
            "old": rows(case.old),
            "reference": rows(case.reference),
            "mask": rows(ones),
        },
    }


def ours(parts: dict[str, Any]) -> LossOptions:
    return LossOptions.model_validate_json(json.dumps(parts))


def group_advantages(options: LossOptions) -> list[float]:
    """By hand, since TRL's function is given them: r - mean, over the standard deviation or not."""
    found: list[float] = []
    for row in CASE.rewards:
        centred = np.array(row) - np.mean(row)
        has_std = options.advantage.kind == "group_mean_std"
        found += (centred / (np.std(row, ddof=1) + 1e-6) if has_std else centred).tolist()
    return found


def outside(program: str, folder: Path, cases: dict[str, Any], place: Path) -> dict[str, Any]:
    """What another project's code makes of the cases."""
    (place / "cases.json").write_text(json.dumps(cases))
    command = [sys.executable, "-W", "ignore", CHECKOUT / "tests" / "outside" / program]
    done = subprocess.run(
        [*command, place / "cases.json", place / "found.json"],
        env={"PYTHONPATH": str(folder), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((place / "found.json").read_text())


@pytest.fixture(scope="module")
def trl(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    cases = {
        name: outside_case(CASE, settings, group_advantages(ours(parts)))
        for name, (settings, parts) in TRL_LOSSES.items()
    }
    folder = installed("trl-1.16.0", TRL)
    return outside("trl_losses.py", folder, cases, tmp_path_factory.mktemp("trl"))


@pytest.fixture(scope="module")
def verl(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    cases = {name: outside_case(CASE, settings, []) for name, (settings, _) in VERL_LOSSES.items()}
    try:
        folder = installed("verl-0.9.1", VERL)
    except NotInstallableError as error:
        pytest.skip(f"verl cannot be installed here, so nothing is compared with it: {error}")
    return outside("verl_losses.py", folder, cases, tmp_path_factory.mktemp("verl"))


def assert_same(found: dict[str, Any], parts: dict[str, Any]) -> None:
    terms, slopes = computed(CASE, ours(parts))
    gradient = [
        row[: len(x)]
        for row, x in zip(found["gradient"], [x for g in CASE.logp for x in g], strict=True)
    ]
    assert terms.loss.item() == pytest.approx(found["loss"], rel=1e-6)
    np.testing.assert_allclose(slopes, np.concatenate(gradient), rtol=1e-6, atol=1e-9)
    assert np.abs(slopes).max() > 1e-3


@pytest.mark.parametrize("name", TRL_LOSSES)
def test_a_loss_is_trl_s(trl: dict[str, Any], name: str) -> None:
    assert_same(trl[name], TRL_LOSSES[name][1])


@pytest.mark.parametrize("name", VERL_LOSSES)
def test_a_loss_is_verl_s(verl: dict[str, Any], name: str) -> None:
    assert_same(verl[name], VERL_LOSSES[name][1])
