"""The coupled rule on given accuracies and on measured generations."""

import numpy as np
import pytest

from e3mega.curriculum.allowance import budget_at
from e3mega.curriculum.budget import (
    BudgetDecision,
    BudgetReason,
    choose,
    decide_budget,
    measured_budgets,
)
from e3mega.curriculum.options import CoupledBudget, FixedBudget, RampBudget

NEVER = 10**9


def decide(
    solved_at: np.ndarray,
    candidates: tuple[int, ...],
    *,
    seed: int = 1,
    floor: float = 0.0,
    pass_k: int = 1,
) -> BudgetDecision:
    rule = CoupledBudget(kind="coupled", candidates=candidates, kappa=1.2, pass_k=pass_k)
    return decide_budget(solved_at, rule, floor=floor, seed=seed)


def generations(shares: dict[int, float], num_problems: int = 1000) -> np.ndarray:
    """Two samples a problem, both solved at exactly the budget that gives these accuracies."""
    solved_at = np.full((num_problems, 2), NEVER)
    for budget in sorted(shares, reverse=True):
        solved_at[: round(shares[budget] * num_problems)] = budget
    return np.random.default_rng(0).permutation(solved_at)


def test_the_papers_accuracies_choose_1024() -> None:
    accuracy = {256: 0.0575, 512: 0.1681, 1024: 0.2313, 2048: 0.2363, 4096: 0.2363}
    assert choose(accuracy, (256, 512, 1024, 2048), 1.2) == 1024


def test_zero_accuracy_never_qualifies_and_the_largest_is_the_fallback() -> None:
    assert choose({8: 0.0, 16: 0.0, 32: 0.1, 64: 0.1}, (8, 16, 32), 1.2) == 32
    assert choose({8: 0.1, 16: 0.2, 32: 0.4}, (8, 16), 1.2) == 16
    assert choose({8: 0.5, 16: 0.6}, (8,), 1.2) == 8


def test_measured_budgets_are_candidates_and_their_doubles() -> None:
    assert measured_budgets((64, 32)) == (32, 64, 128)


def test_clear_ratios_decide_as_the_pure_rule_does() -> None:
    shares = {32: 0.1, 64: 0.4, 128: 0.42}
    decision = decide(generations(shares), (32, 64), seed=1)
    assert decision.chosen == choose(shares, (32, 64), 1.2) == 64
    assert decision.reason is BudgetReason.DECIDED
    assert decision.budgets == (32, 64, 128)
    np.testing.assert_allclose(decision.accuracy, (0.1, 0.4, 0.42))
    np.testing.assert_allclose(decision.ratios, (4.0, 1.05))
    assert (decision.num_problems, decision.num_samples) == (1000, 2)
    for low, ratio, high in zip(
        decision.ratio_low, decision.ratios, decision.ratio_high, strict=True
    ):
        assert low <= ratio <= high


@pytest.mark.parametrize("second", [0.23, 0.25])
def test_an_interval_around_kappa_takes_the_smaller_budget_and_says_so(second: float) -> None:
    """0.23 / 0.2 = 1.15 and 0.25 / 0.2 = 1.25 with 300 problems straddle 1.2."""
    shares = {32: 0.2, 64: second, 128: second}
    decision = decide(generations(shares, 300), (32, 64), seed=1)
    assert decision.ratio_low[0] < 1.2 < decision.ratio_high[0]
    assert (decision.chosen, decision.reason) == (32, BudgetReason.UNDECIDED)


def test_no_candidate_that_qualifies_gives_the_largest() -> None:
    shares = {32: 0.1, 64: 0.2, 128: 0.4}
    decision = decide(generations(shares), (32, 64), seed=1)
    assert (decision.chosen, decision.reason) == (64, BudgetReason.LARGEST)


def test_no_accuracy_at_all_gives_the_largest() -> None:
    decision = decide(np.full((50, 2), NEVER), (32, 64), seed=1)
    assert (decision.chosen, decision.reason) == (64, BudgetReason.LARGEST)
    assert decision.ratios == (np.inf, np.inf)


def test_the_interval_is_that_of_a_slow_bootstrap() -> None:
    rng = np.random.default_rng(4)
    solved_at = np.where(rng.random((200, 2)) < 0.5, rng.integers(1, 129, (200, 2)), NEVER)
    decision = decide(solved_at, (64,), seed=1)
    ratios = []
    for _ in range(4000):
        drawn = solved_at[rng.integers(0, 200, 200)]
        ratios.append((drawn <= 128).sum() / (drawn <= 64).sum())
    low, high = np.quantile(ratios, [0.025, 0.975])
    assert decision.ratio_low[0] == pytest.approx(low, abs=0.06)
    assert decision.ratio_high[0] == pytest.approx(high, abs=0.06)


def test_the_same_seed_gives_the_same_decision() -> None:
    solved_at = generations({32: 0.2, 64: 0.3, 128: 0.35}, 100)
    one, two = (decide(solved_at, (32, 64), seed=3) for _ in "ab")
    assert one == two


def test_a_tie_qualifies_whatever_the_last_bit_says() -> None:
    """1.2 * 0.55 is 0.66 only up to rounding; of two that qualify the smaller is taken."""
    for low in np.arange(1, 80) / 100:
        accuracy = {32: float(low), 64: float(low * 12 / 10), 128: float(low * 144 / 100)}
        assert choose(accuracy, (32, 64), 1.2) == 32
    decision = decide(generations({32: 0.5, 64: 0.6, 128: 0.6}), (32, 64))
    assert (decision.chosen, decision.ratios[0]) == (32, pytest.approx(1.2))


def test_candidates_below_the_floor_do_not_qualify() -> None:
    shares = {32: 0.5, 64: 0.52, 128: 0.53, 256: 0.53}
    solved_at = generations(shares)
    assert decide(solved_at, (32, 64, 128)).chosen == 32
    assert decide(solved_at, (32, 64, 128), floor=33.0).chosen == 64
    above = decide(solved_at, (32, 64, 128), floor=500.0)
    assert (above.chosen, above.reason) == (128, BudgetReason.LARGEST)
    assert choose(shares, (32, 64, 128), 1.2, floor=64) == 64


def test_the_rule_on_pass_at_2_reads_the_best_of_two() -> None:
    """One of two samples is right at 32, so pass@1 doubles at 64 and pass@2 stays."""
    solved_at = np.tile(np.array([[32, 64]]), (500, 1))
    assert decide(solved_at, (32, 64)).chosen == 64
    decision = decide(solved_at, (32, 64), pass_k=2)
    assert (decision.chosen, decision.accuracy) == (32, (1.0, 1.0, 1.0))


def test_the_smaller_budget_is_taken_while_the_interval_contains_kappa() -> None:
    """Noise: over many draws of data with a true ratio of 1.35 the rule errs to small budgets."""
    rng = np.random.default_rng(0)
    small = 0
    for draw in range(40):
        level = rng.random((100, 2))
        solved_at = np.where(level < 0.3, 32, np.where(level < 0.405, 64, NEVER))
        decision = decide(solved_at, (32, 64), seed=draw)
        is_unsure = decision.ratio_low[0] <= 1.2
        assert (decision.chosen == 32) == is_unsure
        small += is_unsure
    assert 0 < small < 40


def test_a_ramp_stays_at_each_level_for_its_steps() -> None:
    ramp = RampBudget(kind="ramp", levels=(32, 64, 128), steps_per_level=2)
    budgets = [budget_at(ramp, step, chosen=0) for step in range(7)]
    assert budgets == [32, 32, 64, 64, 128, 128, 128]
    assert budget_at(FixedBudget(kind="fixed", tokens=96), 5, chosen=0) == 96
    coupled = CoupledBudget(kind="coupled", candidates=(32, 64))
    assert budget_at(coupled, 5, chosen=64) == 64
