"""Experts with a small start: no route, and no step, differs by more than rounding.

Over twenty steps two fp32 loops may part by more than 1e-5 all the same, on one rank too: Adam
divides gradients by their size, so that rounding moves the weights with small ones.
"""

from typing import Any

import pytest

from e3mega.spec.schema.layout import LearnerLayout
from tests.integration.test_learner_grids import EXPERT_GRIDS
from tests.warm_parent import WarmParent

JOB = "tests.integration.routing_jobs:train"
DIVIDED = [name for name in EXPERT_GRIDS if name != "one"]
INIT_STD = 0.02


def same_metrics(found: list[dict[str, float]], wanted: list[dict[str, float]]) -> None:
    """Losses and gradient norms to 1e-5."""
    for step, (own, other) in enumerate(zip(found, wanted, strict=True)):
        for name in ("loss", "grad_norm"):
            assert own[name] == pytest.approx(other[name], rel=1e-5), (step, name)


@pytest.mark.slow
@pytest.mark.parametrize("grid", DIVIDED)
def test_with_routes_held_a_small_start_has_the_numbers_of_one_rank(
    warm_parent: WarmParent, grid: str
) -> None:
    """Each token goes to experts that follow from the token, so that no rounding moves it."""
    job: dict[str, Any] = {"init_std": INIT_STD, "num_steps": 20, "holds_routes": True}
    wanted = warm_parent.run(LearnerLayout(), JOB, **job)[0]["steps"]
    found = warm_parent.run(EXPERT_GRIDS[grid], JOB, **job)[0]["steps"]
    same_metrics(found, wanted)
    assert wanted[-1]["loss"] < wanted[0]["loss"] - 0.01, "it learns"


@pytest.mark.slow
@pytest.mark.parametrize("grid", DIVIDED)
def test_a_token_goes_to_other_experts_only_where_its_gates_tie(
    warm_parent: WarmParent, grid: str
) -> None:
    """Up to the first step with such a token the numbers are those of one rank."""
    job: dict[str, Any] = {"init_std": INIT_STD, "num_steps": 20, "holds_routes": False}
    one = warm_parent.run(LearnerLayout(), JOB, **job)[0]
    ranks = warm_parent.run(EXPERT_GRIDS[grid], JOB, **job)
    routes = {key: route for rank in ranks for key, route in rank["routes"].items()}
    assert one["routes"].keys() <= routes.keys()
    moved = [key for key, (experts, _) in one["routes"].items() if routes[key][0] != experts]
    first = min((step for step, *_ in moved), default=20)
    same_metrics(ranks[0]["steps"][:first], one["steps"][:first])
    for key in moved:
        if key[0] == first:
            assert one["routes"][key][1] < 1e-6, f"{key} was no tie"


def test_every_step_of_a_small_start_is_transformers_in_float64(warm_parent: WarmParent) -> None:
    """At the learner's own weights, so that what Adam makes of rounding does not add up."""
    job: dict[str, Any] = {"init_std": INIT_STD, "num_steps": 10}
    steps = warm_parent.run(LearnerLayout(), "tests.integration.torch_loop:follow", **job)[0]
    for number, step in enumerate(steps):
        for name in ("loss", "grad_norm"):
            assert step[name] == pytest.approx(step[f"torch_{name}"], rel=2e-6), (number, name)
