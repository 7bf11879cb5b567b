"""A sync that is not what it says ends the run with the tensor or the token named."""

import asyncio
from pathlib import Path

import pytest

from e3mega.errors import E3Error
from e3mega.loop.wiring import run_loop
from tests.e2e.faults import Fault
from tests.e2e.learner_jobs import DROPPED
from tests.e2e.tier import ServedRun, Tier

pytestmark = pytest.mark.e2e

SHORT = (
    "evaluation.num_problems=4",
    "evaluation.pass_num_problems=2",
    "evaluation.budgets=[16]",
    "evaluation.pass_budget_tokens=16",
    "curriculum.stages.easy.budget.tokens=24",
    "curriculum.stages.warmup.exit.max_steps=4",
    # Random weights earn no reward; the entropy bonus is what moves them.
    "loss.entropy.coefficient=0.01",
)
RATES = (3e-4, 1e-6)


def run_to_its_end(run: ServedRun) -> None:
    """What the loop's process does."""
    asyncio.run(run_loop(run.plan, run.paths, 0, run.metrics))


def learning_at(rate: float) -> tuple[str, ...]:
    """Settings of a short run with this learning rate in its RL stages."""
    return (*SHORT, f"optimizer.learning_rate={rate:g}")


@pytest.mark.parametrize("rate", RATES)
def test_a_dropped_tensor_stops_the_run(tier: Tier, tmp_path: Path, rate: float) -> None:
    with tier.run(tmp_path, *learning_at(rate), source="dropping") as run:
        with pytest.raises(E3Error, match=DROPPED):
            run_to_its_end(run)
        assert DROPPED in run.end(), "the learner ends with the same reason"


@pytest.mark.parametrize("rate", RATES)
def test_a_stale_tied_head_stops_the_run(tier: Tier, tmp_path: Path, rate: float) -> None:
    with (
        tier.run(tmp_path, *learning_at(rate), fault=Fault.STALE_HEAD) as run,
        pytest.raises(E3Error, match=r"tensor model\.embed_tokens\.weight: its packed copy"),
    ):
        run_to_its_end(run)
    assert len(run.events("canary")) == 1, "the first sync was right"


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("where", ["server", "learner"])
def test_weights_of_the_step_before_stop_the_run(
    tier: Tier, tmp_path: Path, rate: float, where: str
) -> None:
    """Names and checksums agree here; only the canary can tell."""
    source = "lagging" if where == "learner" else ""
    fault = Fault.OLD_WEIGHTS if where == "server" else None
    settings = learning_at(rate)
    with (
        tier.run(tmp_path, *settings, source=source, fault=fault) as run,
        pytest.raises(E3Error, match=r"canary token \d+: .* disagree"),
    ):
        run_to_its_end(run)
    (first,) = run.events("canary")
    (stage,) = (event for event in run.events("stage_started") if event["stage"] == "easy")
    assert first["version"] == stage["version"], "the first sync was right, the second one is not"


def test_generation_may_run_a_round_ahead(tier: Tier, tmp_path: Path) -> None:
    settings = ("rollout.max_lag=1", "loss.correction.kind=truncated")
    steps = ("curriculum.stages.easy.exit.steps=4", "curriculum.stages.hard.exit.steps=3")
    with tier.run(tmp_path, *SHORT, *settings, *steps) as run:
        run_to_its_end(run)
        assert run.end() == ""
    ledger = run.events("ledger")[-1]
    # The first round of a stage has nothing to run ahead of.
    assert ledger["batches_by_lag"] == {"0": 2, "1": 5}
    for step in run.events("step"):
        if step["mode"] == "rl":
            versions = int(str(step["step"])) - 1 - int(str(step["version"]))
            assert versions == step["lag"], "one step a round: lag is a difference of versions"
    assert run.events("run_finished")
