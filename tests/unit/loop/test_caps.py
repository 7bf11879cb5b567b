"""Hard caps of tokens, with rounds that are sampled ahead of their training."""

from pathlib import Path

import pytest

from e3mega.errors import E3Error
from e3mega.rollout.rows import read_groups
from tests.unit.loop.test_controller import make_jobs, run, small_plan
from tests.unit.loop.test_refill import with_luck

STAGE_NAME = "easy"
STAGE = f"curriculum.stages.{STAGE_NAME}"
ENDLESS = f"{STAGE}.exit={{kind: steps, steps: 60}}"
SHORT = ("evaluation.num_problems=2", "evaluation.pass_num_problems=0")
LAG = ("rollout.max_lag=1", "loss.correction.kind=truncated")
ROUND = 8 * 4 * 64
"""Tokens of one round at most: prompts, samples, budget."""


def tokens_on_disk(run_dir: Path, *, purposes: str = "*") -> int:
    """Completion tokens that the servers gave for the stage, whatever the ledger knows."""
    paths = run_dir.glob(f"rollouts/{purposes}/{STAGE_NAME}*/*.parquet")
    groups = [group for path in paths for group in read_groups(path)]
    return sum(len(r.completion.token_ids) for group in groups for r in group.rollouts)


@pytest.mark.parametrize("max_lag", [1, 3])
def test_rounds_sampled_ahead_count_against_a_cap(tmp_path: Path, max_lag: int) -> None:
    cap = 12 * ROUND
    plan = small_plan(
        *(f"rollout.max_lag={max_lag}", "loss.correction.kind=truncated", *SHORT, ENDLESS),
        f"{STAGE}.caps.max_generated_tokens={cap}",
    )
    jobs, _ = make_jobs(plan, tmp_path)
    with pytest.raises(E3Error, match=r"caps.max_generated_tokens: \d+ tokens"):
        run(jobs)
    assert cap - 2 * ROUND < tokens_on_disk(tmp_path) <= cap


def test_a_measurement_within_the_stage_counts_them_too(tmp_path: Path) -> None:
    for cap in range(11 * ROUND, 15 * ROUND, 700):
        plan = small_plan(
            *("rollout.max_lag=3", LAG[1], ENDLESS, "evaluation.pass_num_problems=0"),
            *("evaluation.every_steps=1", "evaluation.budgets=[64]"),
            "evaluation.num_problems=64",
            f"{STAGE}.caps.max_generated_tokens={cap}",
        )
        jobs, _ = make_jobs(plan, tmp_path / str(cap))
        with pytest.raises(E3Error, match=r"caps.max_generated_tokens: \d+ tokens"):
            run(jobs)
        assert tokens_on_disk(tmp_path / str(cap)) <= cap


@pytest.mark.parametrize(
    "settings",
    [
        # Groups of equal rewards: two refills may be dropped whole.
        (f"{STAGE}.loss.dynamic_sampling.max_refills=2", ENDLESS),
        # What is sampled ahead of a stage that may end at any measurement.
        (*LAG, f"{STAGE}.exit={{kind: target, at_least: 1, every_steps: 1, max_steps: 60}}"),
    ],
)
def test_dropped_tokens_have_a_cap(tmp_path: Path, settings: tuple[str, ...]) -> None:
    cap = ROUND - 1
    plan = small_plan(*settings, *SHORT, f"{STAGE}.caps.max_discarded_tokens={cap}")
    jobs, _ = make_jobs(plan, tmp_path)
    with pytest.raises(E3Error, match=r"caps.max_discarded_tokens: \d+ tokens"):
        run(with_luck(jobs))
    assert tokens_on_disk(tmp_path, purposes="train") < 2 * ROUND
