"""Advantages against numbers worked by hand."""

import numpy as np
import pytest

from e3mega.objective.advantage import group_advantages
from e3mega.objective.options import Advantage, LossOptions

# One right of four: mean 1/4; squared deviations 9/16 + 3/16 = 3/4; sample variance 1/4, std 1/2.
ONE_OF_FOUR = np.array([[1.0, 0.0, 0.0, 0.0]])


def test_group_mean_and_std_of_one_right_in_four() -> None:
    options = LossOptions(advantage=Advantage.GROUP_MEAN_STD)
    expected = np.array([[0.75, -0.25, -0.25, -0.25]]) / (0.5 + 1e-6)
    np.testing.assert_allclose(group_advantages(ONE_OF_FOUR, options), expected, rtol=1e-14)


def test_group_mean_of_one_right_in_four() -> None:
    options = LossOptions(advantage=Advantage.GROUP_MEAN)
    expected = [[0.75, -0.25, -0.25, -0.25]]
    np.testing.assert_allclose(group_advantages(ONE_OF_FOUR, options), expected, rtol=1e-15)


def test_constant_ignores_the_rewards() -> None:
    options = LossOptions(advantage=Advantage.CONSTANT)
    assert group_advantages(ONE_OF_FOUR, options).tolist() == [[1.0] * 4]


def test_sign_weights_multiply_each_side() -> None:
    options = LossOptions(advantage=Advantage.GROUP_MEAN, positive_weight=0.5, negative_weight=2.0)
    assert group_advantages(ONE_OF_FOUR, options).tolist() == [[0.375, -0.5, -0.5, -0.5]]
    positive_only = LossOptions(advantage=Advantage.GROUP_MEAN, negative_weight=0.0)
    assert group_advantages(ONE_OF_FOUR, positive_only).tolist() == [[0.75, 0.0, 0.0, 0.0]]


@pytest.mark.parametrize("advantage", [Advantage.GROUP_MEAN, Advantage.GROUP_MEAN_STD])
def test_groups_of_equal_rewards_and_of_one_sample_get_exactly_zero(advantage: Advantage) -> None:
    options = LossOptions(advantage=advantage)
    rewards = np.array([[0.1, 0.1, 0.1], [1.0, 1.0, 1.0], [1.0, 0.0, 1.0]])
    advantages = group_advantages(rewards, options)
    assert not advantages[:2].any() and advantages[2].all()
    assert group_advantages(np.array([[1.0], [0.0]]), options).tolist() == [[0.0], [0.0]]


def test_groups_do_not_see_each_other() -> None:
    options = LossOptions(advantage=Advantage.GROUP_MEAN_STD)
    rewards = np.random.default_rng(0).integers(0, 2, (6, 8)).astype(float)
    together = group_advantages(rewards, options)
    for row, rewards_S in zip(together, rewards, strict=True):
        np.testing.assert_array_equal(row, group_advantages(rewards_S[None], options)[0])
