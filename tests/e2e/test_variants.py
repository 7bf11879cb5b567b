"""Every named loss trains the small model in the loop, and what its stage records is its own."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from e3mega.plan.paths import RunPaths
from e3mega.plan.planfile import Plan, read_plan
from tests.e2e.live_run import Event, LiveRuns
from tests.loss_formulas import FORMULAS
from tests.warm_parent import WarmParent

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

VARIANTS = sorted(set(FORMULAS) - {"sft"})
HAS_KL = {"grpo", "grpo_mask", "negative_only", "nthr"}
SIGNS = ("positive", "negative")
DROPS = {"psr": "negative", "grpo_mask": "negative", "nsr": "positive", "negative_only": "positive"}
"""Signs that a variant has no samples of."""
FIXED = {"psr": (1.0, -1.0), "nsr": (1.0, -1.0), "topr": (1.0, -1.0), "w_reinforce": (0.1, -1.0)}
"""Advantages that do not depend on the group."""
ALL_HAVE_A_SIGN = {"psr", "nsr", "topr", "w_reinforce", "asymre", "ngrpo", "negative_only"}


@dataclass(frozen=True)
class Variants:
    """The finished run of all of them."""

    paths: RunPaths
    plan: Plan
    steps: dict[str, list[Event]]
    """By stage."""


@pytest.fixture(scope="module")
def variants(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Variants]:
    runs = LiveRuns()
    try:
        run_dir = tmp_path_factory.mktemp("variants") / "run"
        keep = f"checkpoint.keep_last={len(VARIANTS) + 2}"
        run = runs.start(run_dir, "loss-variants", keep)
        status, lines, _ = run.finish(seconds=550.0)
        assert status == 0, "\n".join(lines)
        steps: dict[str, list[Event]] = {}
        for event in run.events("step"):
            steps.setdefault(str(event["stage"]), []).append(event)
        yield Variants(run.paths, read_plan(run.paths.plan), steps)
    finally:
        runs.close()


@pytest.fixture(scope="module")
def replayed(variants: Variants, warm_parent: WarmParent) -> dict[str, dict[str, Any]]:
    """The first step of each stage under its own loss."""
    case = {"run_dir": str(variants.paths.run_dir), "losses": {}, "segment": 0}
    ranks = warm_parent.run(
        variants.plan.layout.learner, "tests.e2e.learner_jobs:replayed", timeout_s=400, **case
    )
    return {step["stage"]: step for step in ranks[0]}


def test_the_warm_up_earns_some_rewards_and_not_all(variants: Variants) -> None:
    means = [float(str(step["reward_mean"])) for name in VARIANTS for step in variants.steps[name]]
    assert 0.02 < sum(means) / len(means) < 0.9, means
    losses = [float(str(step["loss"])) for step in variants.steps["warmup"]]
    assert losses[-1] < losses[0] / 2, "sft"


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_trains_and_its_records_are_its_own(variants: Variants, name: str) -> None:
    steps = variants.steps[name]
    assert len(steps) == 2
    for number, step in enumerate(steps):
        value = {key: float(str(x)) for key, x in step.items() if isinstance(x, int | float)}
        assert math.isfinite(value["loss"]) and math.isfinite(value["grad_norm"])
        share = {sign: value[f"tokens_{sign}_frac"] for sign in SIGNS}
        for sign in SIGNS:
            assert (value[f"logit_grad_norm_{sign}"] > 0) == (share[sign] > 0), sign
            assert value[f"advantage_{sign}"] * (1 if sign == "positive" else -1) >= 0
        if sum(share.values()) > 0:
            assert value["grad_norm"] > 1e-4
        if name in DROPS:
            assert share[DROPS[name]] == 0
        if name in ALL_HAVE_A_SIGN and value["tokens_trained"] > 0:
            assert sum(share.values()) == pytest.approx(1.0)
        for sign, advantage in zip(SIGNS, FIXED.get(name, ()), strict=False):
            if share[sign]:
                assert value[f"advantage_{sign}"] == pytest.approx(advantage)
        if name not in HAS_KL:
            assert value["kl"] == 0
        elif number == 0:
            assert value["kl"] == pytest.approx(0.0, abs=1e-6), "the stage starts at its reference"
        elif float(str(steps[0]["grad_norm"])) > 0:
            assert value["kl"] > 0
        if name == "dapo":
            assert value["mixed_groups_frac"] > 0.5, "groups of equal rewards were replaced"


def test_both_signs_pull_somewhere_in_every_variant_that_has_both(variants: Variants) -> None:
    for name in set(VARIANTS) - set(DROPS):
        pulls = [
            [float(str(step[f"logit_grad_norm_{sign}"])) for step in variants.steps[name]]
            for sign in SIGNS
        ]
        assert all(max(pull) > 0 for pull in pulls), (name, pulls)


@pytest.mark.parametrize("name", VARIANTS)
def test_its_replay_has_the_recorded_norm(replayed: dict[str, dict[str, Any]], name: str) -> None:
    step = replayed[name]
    (own,) = step["losses"]
    assert step["is_batch_rebuilt"]
    assert own["norm"] == pytest.approx(step["recorded_norm"], rel=1e-5, abs=1e-9)
