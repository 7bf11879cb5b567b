"""Shares of attempts against hand counts and simulations with known rates."""

import numpy as np
import pytest

from e3mega.evaluate.asymmetry import TriedTrace, attempt_counts, measure_asymmetry
from e3mega.evaluate.chained import cut_behind
from e3mega.evaluate.pk_model import fit_pk
from e3mega.tasks.countdown.options import CountdownOptions
from e3mega.tasks.countdown.task import CountdownTask
from e3mega.tasks.interface import Attempt


def trace(problem: int, verdicts: str, *, ended: bool = True, right: bool = False) -> TriedTrace:
    """``h`` a hit called a hit, ``H`` one called a miss, ``m`` and ``M`` misses likewise, and
    ``x`` a miss of which nothing is said."""
    claims = {"h": True, "H": False, "m": False, "M": True, "x": None}
    attempts = tuple(
        Attempt(10 * place, letter in "hH", claims[letter]) for place, letter in enumerate(verdicts)
    )
    return TriedTrace(problem, attempts, ended, right)


def test_shares_are_those_counted_by_hand() -> None:
    traces = [
        trace(0, "mmh", right=True),
        trace(0, "mH"),
        trace(1, "M"),
        trace(1, "mm", ended=False),
        trace(2, "h", right=True),
        trace(2, ""),
    ]
    found = measure_asymmetry(traces, seed=1)
    assert (found.generation.value, found.generation.num_cases) == (3 / 9, 9)
    assert found.recognised_hits.value == 2 / 3
    assert found.recognised_misses.value == 5 / 6
    assert found.verification.value == pytest.approx((2 / 3 + 5 / 6) / 2)
    assert found.gap.value == pytest.approx((2 / 3 + 5 / 6) / 2 - 3 / 9)
    # Called wrong: m m of the first, m H of the second, m m of the fourth, whose last is cut.
    assert (found.continues.value, found.continues.num_cases) == (4 / 5, 5)
    assert found.right_with_checks.value == 1 / 3
    assert found.right_without_checks.value == 1 / 2
    assert found.mean_attempts == 9 / 6


def test_without_words_the_model_says_by_going_on_what_it_thinks() -> None:
    found = measure_asymmetry([trace(0, "xx"), trace(1, "xx", ended=False)], seed=1)
    assert found.recognised_misses.value == 2 / 3
    assert found.recognised_misses.num_cases == 3


@pytest.mark.parametrize("p", [0.6, 0.9])
def test_the_fit_finds_the_rate_of_simulated_attempts(p: float) -> None:
    rng = np.random.default_rng(5)
    traces = []
    for number in range(4000):
        budget = int(rng.integers(1, 9))
        first_hit = int(rng.geometric(1 - p))
        letters = "m" * min(first_hit - 1, budget) + "h" * (first_hit <= budget)
        traces.append(trace(number % 400, letters, right=first_hit <= budget))
    fit = fit_pk(attempt_counts(traces), (1, 2, 4, 8), seed=1)
    assert fit.low < p < fit.high and fit.high - fit.low < 0.05
    for point in fit.points:
        assert point.low <= p**point.k <= point.high, point
        assert point.model == pytest.approx(p**point.k, abs=0.03)


def test_a_mixture_of_problems_fails_more_often_than_its_mean_says() -> None:
    """E[p_i^k] exceeds p^k, and the curve shows it."""
    rng = np.random.default_rng(6)
    traces = []
    for number in range(6000):
        hits = rng.random(8) < (0.6 if number % 2 else 0.02)
        first = int(hits.argmax()) if hits.any() else 8
        traces.append(trace(number % 600, "m" * first + "h" * bool(hits.any())))
    fit = fit_pk(attempt_counts(traces), (8,), seed=1)
    assert fit.points[0].low > fit.points[0].model


def test_attempts_behind_the_first_hit_do_not_count_for_the_fit() -> None:
    counts = attempt_counts([trace(0, "mHmh"), trace(0, "mm")])
    assert counts.tried_PK.tolist() == [[2, 2, 0, 0]]
    assert counts.hit_PK.tolist() == [[0, 1, 0, 0]]


def test_a_completion_is_cut_behind_its_attempt_or_its_last() -> None:
    task = CountdownTask(CountdownOptions(kind="countdown"), 1)
    for index in range(40):
        example = task.trace(index)
        ends = task.mark(example.prompt, example.token_ids).attempts_at
        for count in (1, 2, 16):
            cut = cut_behind(task, example.prompt, example.token_ids, count)
            assert cut == ends[min(count, len(ends)) - 1]
