"""The metrics of exploration on traces whose counts are known."""

import math

import pytest

from e3mega.loop.exploration import ends_in_a_cycle, failure_counts, group_metrics
from e3mega.rollout.records import Completion, FinishReason, Group, GroupRequest, Rollout
from e3mega.tasks.interface import Failure, Marks, Prompt


def rollout(
    attempts: int,
    misses: int,
    *,
    reward: float,
    ends_at_miss: bool = False,
    failure: Failure = Failure.NONE,
) -> Rollout:
    tokens = tuple(range(attempts))
    completion = Completion(tokens, (0.0,) * attempts, FinishReason.STOP, ())
    marks = Marks(
        reward=reward,
        num_attempts=attempts,
        num_unique_attempts=min(attempts, 2),
        num_claimed_hits=0,
        num_false_hits=0,
        num_missed_hits=0,
        num_failed_checks=misses,
        ends_at_failed_check=ends_at_miss,
        solved_at=0,
        attempts_at=(),
        failure=failure,
    )
    return Rollout(completion, marks)


def test_stops_are_counted_over_the_checks_that_failed() -> None:
    rollouts = (
        rollout(7, 2, reward=1.0),  # failed twice, went on twice
        rollout(4, 4, reward=0.0, ends_at_miss=True),  # failed four times, stopped after the last
        rollout(2, 2, reward=0.0),  # failed twice, was cut
        rollout(3, 0, reward=0.0),  # said nothing of its attempts
    )
    request = GroupRequest(0, Prompt("p", (1,), "easy"), 4, 8, 1.0, 1.0, 0, 1, 0)
    found = group_metrics([Group(request, rollouts)])
    assert found["stop_after_failed_check"] == pytest.approx(1 / 8)
    assert found["unique_attempts_incorrect"] == 2
    assert found["attempts_incorrect"] == 3
    assert found["attempts_mean"] == 4
    assert found["repetition_frac"] == 0
    right = group_metrics([Group(request, (rollout(1, 0, reward=1.0),))])
    assert math.isnan(right["stop_after_failed_check"])
    assert math.isnan(right["length_incorrect"])


def test_what_could_not_be_graded_is_counted_by_reason() -> None:
    reasons = (Failure.TIME, Failure.NONE, Failure.CRASH, Failure.TIME)
    rollouts = tuple(rollout(1, 0, reward=0.0, failure=each) for each in reasons)
    request = GroupRequest(0, Prompt("p", (1,), "easy"), 4, 8, 1.0, 1.0, 0, 1, 0)
    assert failure_counts([Group(request, rollouts)]) == {"crash": 1, "time": 2}
    assert failure_counts([]) == {}


@pytest.mark.parametrize(
    ("tokens", "is_cycle"),
    [
        ((9, 1, 2, 1, 2, 1, 2, 1, 2), True),
        ((9, 1, 2, 1, 2, 1, 2), False),
        ((5, 5, 5, 5), True),
        ((5, 5, 5), False),
        ((1, 2, 3, 4) * 4 + (9,), False),
        (tuple(range(25)) * 4, False),
        ((), False),
    ],
)
def test_a_cycle_is_four_copies_at_the_end(tokens: tuple[int, ...], is_cycle: bool) -> None:
    assert ends_in_a_cycle(tokens) == is_cycle
