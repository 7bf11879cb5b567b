"""Accuracy over budgets and pass@k against brute force."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from e3mega.curriculum.passk import pass_at_k
from e3mega.evaluate.budgets import accuracy_curve, clustered_stderr
from e3mega.evaluate.outcomes import NEVER, Outcomes, outcomes_of
from e3mega.evaluate.passk import pass_k_curve
from e3mega.rollout.records import (
    Completion,
    FinishReason,
    Group,
    GroupRequest,
    Rollout,
)
from e3mega.tasks.failure import Failure
from e3mega.tasks.interface import Marks, Prompt


def make_group(index: int, samples: list[tuple[int, FinishReason, int | None]]) -> Group:
    """Samples as (number of tokens, how it ended, solved at)."""
    slice_name = "easy" if index % 2 == 0 else "hard"
    request = GroupRequest(
        index, Prompt("1 2 3 : 6", (1, 2), slice_name), len(samples), 100, 1.0, 1.0, 0, 5, 0
    )
    return Group(
        request,
        tuple(
            Rollout(
                Completion((1,) * length, (-0.5,) * length, reason, ()),
                Marks(
                    float(solved is not None), 3, 3, 1, 0, 0, 2, False, solved, (10,), Failure.NONE
                ),
            )
            for length, reason, solved in samples
        ),
    )


STOP, LENGTH = FinishReason.STOP, FinishReason.LENGTH
GROUPS = (
    make_group(0, [(40, STOP, 40), (100, LENGTH, None)]),
    make_group(1, [(80, STOP, 80), (50, STOP, None)]),
    make_group(2, [(30, STOP, 30), (60, STOP, 60)]),
)


def test_the_curve_of_three_problems_by_hand() -> None:
    """Solved by 64 tokens: 1 of 2, 0 of 2, 2 of 2; cut at 64: one, one, none of two."""
    outcomes = outcomes_of(GROUPS)
    at_32, at_64, at_100 = accuracy_curve(outcomes, (32, 64, 100))
    assert (at_32.accuracy, at_64.accuracy, at_100.accuracy) == pytest.approx((1 / 6, 1 / 2, 2 / 3))
    assert (at_64.truncated_frac, at_100.truncated_frac) == pytest.approx((2 / 6, 1 / 6))
    assert at_64.stderr == pytest.approx(0.5 / np.sqrt(3))
    assert at_64.budget_tokens == 64


def test_a_single_slice_is_the_whole() -> None:
    assert outcomes_of(GROUPS).shown_slices == ("all", "easy", "hard")
    assert outcomes_of(GROUPS).of_slice("easy").shown_slices == ("all",)
    mixed = replace(outcomes_of(GROUPS), slices=("all", "hard", "all"))
    assert mixed.shown_slices == ("all", "hard"), "problems of no slice are in the whole alone"


def test_slices_are_measured_apart() -> None:
    outcomes = outcomes_of(GROUPS)
    assert accuracy_curve(outcomes.of_slice("easy"), (64,))[0].accuracy == 0.75
    assert accuracy_curve(outcomes.of_slice("hard"), (64,))[0].accuracy == 0.0
    assert outcomes.of_slice("all").slices == outcomes.slices == ("easy", "hard", "easy")
    assert outcomes.of_slice("easy").num_tokens_PS.tolist() == [[40, 100], [30, 60]]


def test_the_clustered_error_is_the_spread_over_repeated_draws_of_problems() -> None:
    """Samples of a problem are equal here, so counting them as independent would be wrong."""
    rng = np.random.default_rng(0)
    errors, means = [], []
    for _ in range(400):
        right_P = rng.random(100) < 0.3
        solved_at = np.where(right_P[:, None], 10, NEVER).repeat(8, axis=1)
        outcomes = Outcomes(solved_at, solved_at, solved_at, solved_at, ("a",) * 100)
        point = accuracy_curve(outcomes, (64,))[0]
        errors.append(point.stderr)
        means.append(point.accuracy)
    assert np.mean(errors) == pytest.approx(np.std(means), rel=0.1)
    assert np.isnan(clustered_stderr(np.array([1.0])))


@pytest.mark.parametrize("num_correct", range(7))
@pytest.mark.parametrize("k", [1, 2, 4, 6])
def test_pass_at_k_is_the_mean_over_all_subsets(num_correct: int, k: int) -> None:
    samples = [True] * num_correct + [False] * (6 - num_correct)
    subsets = list(combinations(samples, k))
    expected = sum(any(subset) for subset in subsets) / len(subsets)
    estimate = pass_at_k(np.array([num_correct]), 6, k)[0]
    assert estimate == pytest.approx(expected, abs=1e-15)


def test_the_curve_of_pass_at_k_and_its_error() -> None:
    rng = np.random.default_rng(1)
    rates_P = rng.random(128)
    is_correct_PS = rng.random((128, 8)) < rates_P[:, None]
    points = pass_k_curve(is_correct_PS, (1, 2, 8), seed=0)
    assert points[0].pass_at_k == pytest.approx(is_correct_PS.mean())
    assert points[2].pass_at_k == pytest.approx(is_correct_PS.any(axis=1).mean())
    for point, values_P in (
        (points[0], is_correct_PS.mean(axis=1)),
        (points[2], is_correct_PS.any(axis=1).astype(float)),
    ):
        assert point.stderr == pytest.approx(clustered_stderr(values_P), rel=0.06)


def test_more_than_the_samples_there_are_is_refused() -> None:
    with pytest.raises(AssertionError, match="pass@9"):
        pass_at_k(np.array([1]), 8, 9)
