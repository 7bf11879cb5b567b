"""The area beyond the training budget against sums by hand and a slow bootstrap."""

import numpy as np
import pytest

from e3mega.evaluate.extrapolation import area_beyond, extrapolation
from e3mega.evaluate.outcomes import NEVER, Outcomes

BUDGETS = (32, 64, 128, 256)


def outcomes(solved_at_PS: np.ndarray) -> Outcomes:
    return Outcomes(solved_at_PS, solved_at_PS, solved_at_PS, solved_at_PS, ("a",) * 9)


def test_the_area_is_the_mean_gain_over_doublings_by_trapezoids() -> None:
    """Gains 0, .1, .3 one doubling apart: (.05 + .2) / 2."""
    curve = np.array([[0.2, 0.4, 0.5, 0.7]])
    assert area_beyond(BUDGETS, curve, 64)[0] == pytest.approx(0.125)
    assert area_beyond(BUDGETS, curve, 32)[0] == pytest.approx((0.1 + 0.25 + 0.4) / 3)
    flat = np.array([[0.2, 0.4, 0.4, 0.4]])
    assert area_beyond(BUDGETS, flat, 64)[0] == 0.0


def test_a_finer_grid_of_budgets_leaves_a_straight_line_alone() -> None:
    coarse = area_beyond((64, 256), np.array([[0.2, 0.6]]), 64)[0]
    fine = area_beyond((64, 128, 256), np.array([[0.2, 0.4, 0.6]]), 64)[0]
    assert coarse == pytest.approx(fine) == pytest.approx(0.2)


def test_its_error_is_that_of_a_slow_bootstrap() -> None:
    rng = np.random.default_rng(3)
    solved_at = rng.choice([32, 64, 128, 256, NEVER], size=(200, 2))
    found = extrapolation(outcomes(solved_at), BUDGETS, 64, seed=1)
    assert found is not None
    areas = []
    for _ in range(3000):
        drawn = solved_at[rng.integers(0, 200, 200)]
        j64, j128, j256 = ((drawn <= budget).mean() for budget in (64, 128, 256))
        areas.append(((j128 - j64) / 2 + (j128 + j256 - 2 * j64) / 2) / 2)
    assert found.area == pytest.approx(np.mean(areas), abs=0.01)
    assert found.stderr == pytest.approx(np.std(areas), rel=0.1)
    assert (found.from_tokens, found.to_tokens) == (64, 256)


def test_without_a_larger_budget_there_is_no_extrapolation() -> None:
    solved_at = np.full((9, 1), 32)
    assert extrapolation(outcomes(solved_at), BUDGETS, 256, seed=1) is None


def test_a_training_budget_between_the_test_budgets_is_read_off_too() -> None:
    """Of nine solved at 100 tokens or fewer, three within 64: 2/3 more at once, then flat."""
    solved_at = np.array([[20], [40], [60], [90], [90], [90], [100], [100], [100]])
    found = extrapolation(outcomes(solved_at), (32, 128, 256), 64, seed=1)
    assert found is not None and (found.from_tokens, found.to_tokens) == (64, 256)
    assert found.area == pytest.approx((2 / 3 / 2 + 2 / 3) / 2)
