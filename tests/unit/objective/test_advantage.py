"""Advantages against numbers worked by hand."""

import numpy as np
import pytest
from pydantic import TypeAdapter

from e3mega.objective.advantage import Advantage
from e3mega.objective.baselines import advantages

# One right of four: mean 1/4; squared deviations 9/16 + 3/16 = 3/4; sample variance 1/4, std 1/2.
ONE_OF_FOUR = [[1.0, 0.0, 0.0, 0.0]]
ADAPTER: TypeAdapter[Advantage] = TypeAdapter(Advantage)

HAND = {
    "constant": ({}, ONE_OF_FOUR, [[1.0] * 4]),
    "fixed_baseline": ({}, ONE_OF_FOUR, [[1.0, -1.0, -1.0, -1.0]]),
    "group_mean": ({}, ONE_OF_FOUR, [[0.75, -0.25, -0.25, -0.25]]),
    "group_mean_std": ({}, ONE_OF_FOUR, np.array([[0.75, -0.25, -0.25, -0.25]]) / (0.5 + 1e-6)),
    # The others of the right one have mean 0, those of a wrong one 1/3.
    "leave_one_out": ({}, ONE_OF_FOUR, [[1.0, -1 / 3, -1 / 3, -1 / 3]]),
    # Lengths 1, 2, 3, 4: the right one has a tenth of the tokens.
    "length_weighted": ({}, ONE_OF_FOUR, [[0.9, -0.1, -0.1, -0.1]]),
    "shifted_mean": ({"shift": -0.05}, ONE_OF_FOUR, [[0.8, -0.2, -0.2, -0.2]]),
    # Tokens: one of reward 1, nine of 0: mean 0.1, squared deviations 0.81 + 9 * 0.01 = 0.9,
    # variance 0.9 / 9 = 0.1.
    "batch_whitened": (
        {},
        ONE_OF_FOUR,
        np.array([[0.9, -0.1, -0.1, -0.1]]) / np.sqrt(0.1 + 1e-8),
    ),
    # All wrong and one virtual 1: mean 1/5, variance (0.8^2 + 4 * 0.2^2) / 4 = 1/5.
    "virtual_best": ({}, [[0.0] * 4], [[-0.2 / (np.sqrt(0.2) + 1e-6)] * 4]),
    # n 4, c 1, k 2: C(3,2)/C(4,2) = 1/2, so rho 1/2, sigma 1/2; C(2,1)/C(3,1) = 2/3.
    "pass_at_k": ({"k": 2}, ONE_OF_FOUR, [[1.0, -1 / 3, -1 / 3, -1 / 3]]),
    "maximum_likelihood": ({}, ONE_OF_FOUR, np.array([[0.75, -0.25, -0.25, -0.25]]) / 0.250001),
}
LENGTHS = np.array([[1, 2, 3, 4]])


@pytest.mark.parametrize("kind", HAND)
def test_an_advantage_is_the_one_worked_by_hand(kind: str) -> None:
    options, rewards, wanted = HAND[kind]
    found = advantages(
        np.array(rewards), LENGTHS, ADAPTER.validate_python({"kind": kind, **options})
    )
    np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(
    "kind",
    [
        *("group_mean", "group_mean_std", "leave_one_out", "length_weighted"),
        *("maximum_likelihood", "pass_at_k"),
    ],
)
def test_groups_of_equal_rewards_and_of_one_sample_get_exactly_zero(kind: str) -> None:
    options = ADAPTER.validate_python({"kind": kind} | ({"k": 1} if kind == "pass_at_k" else {}))
    rewards = np.array([[0.1, 0.1, 0.1], [1.0, 1.0, 1.0], [1.0, 0.0, 1.0]])
    found = advantages(rewards, np.array([[3, 5, 7]] * 3), options)
    assert not found[:2].any() and found[2].all()
    assert advantages(np.array([[1.0], [0.0]]), np.ones((2, 1)), options).tolist() == [[0.0], [0.0]]


def test_groups_do_not_see_each_other_but_where_the_step_is_whitened() -> None:
    rng = np.random.default_rng(0)
    rewards, lengths = rng.integers(0, 2, (6, 8)).astype(float), rng.integers(1, 9, (6, 8))
    for kind in HAND:
        options = ADAPTER.validate_python({"kind": kind})
        together = advantages(rewards, lengths, options)
        alone = [
            advantages(rewards_S[None], lengths_S[None], options)[0]
            for rewards_S, lengths_S in zip(rewards, lengths, strict=True)
        ]
        assert np.array_equal(together, alone) == (kind != "batch_whitened"), kind


@pytest.mark.parametrize(("n", "k"), [(4, 2), (8, 3), (8, 8)])
def test_the_advantages_of_pass_at_k_are_the_mean_over_all_subsets(n: int, k: int) -> None:
    """Each k-subset is one sample of the reward "any of them is right", normalised over all."""
    from itertools import combinations

    options = ADAPTER.validate_python({"kind": "pass_at_k", "k": k})
    for c in range(n + 1):
        rewards = np.array([1.0] * c + [0.0] * (n - c))
        subsets = list(combinations(range(n), k))
        best = np.array([max(rewards[list(subset)]) for subset in subsets])
        wanted = np.zeros(n)
        if best.std() > 0:
            scaled = (best - best.mean()) / best.std()
            wanted = np.array(
                [
                    np.mean([x for x, s in zip(scaled, subsets, strict=True) if i in s])
                    for i in range(n)
                ]
            )
        found = advantages(rewards[None], np.ones((1, n)), options)[0]
        np.testing.assert_allclose(found, wanted, rtol=1e-10, atol=1e-12)
