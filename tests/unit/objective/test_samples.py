"""Sign weights, masks, truncation and reductions against numbers worked by hand."""

import numpy as np
import pytest

from e3mega.objective.credit import Discounted
from e3mega.objective.options import LossOptions
from e3mega.objective.samples import Samples, Weighed, credit_of_tokens, weigh
from e3mega.options import LinearSchedule, SteppedSchedule, value_at

SAMPLES = Samples(
    rewards_GS=np.array([[1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]]),
    num_tokens_GS=np.array([[4, 10, 6, 2], [1, 2, 3, 4]]),
    is_truncated_GS=np.array([[False, True, False, False], [False] * 4]),
)
BUDGET = 10
GROUP_MEAN = '"advantage": {"kind": "group_mean"}'


def weighed(text: str, stage_step: int = 0) -> Weighed:
    options = LossOptions.model_validate_json("{" + GROUP_MEAN + text + "}")
    return weigh(SAMPLES, options, budget_tokens=BUDGET, stage_step=stage_step)


def test_weights_multiply_each_side_and_stay_in_the_denominator() -> None:
    found = weighed(', "sign": {"positive": {"weight": 0.5}, "negative": {"weight": 2.0}}')
    assert found.advantages_GS.tolist() == [[0.375, -0.5, -0.5, -0.5], [0.0] * 4]
    found = weighed(', "sign": {"negative": {"weight": 0.0}}')
    assert found.advantages_GS.tolist() == [[0.75, 0.0, 0.0, 0.0], [0.0] * 4]
    assert found.normalizer == 32


@pytest.mark.parametrize(
    ("keep", "rows", "normalizer"),
    [
        ("all", [[1, 1, 1, 1], [1, 1, 1, 1]], 32),
        ("positive", [[1, 0, 0, 0], [0, 0, 0, 0]], 4),
        ("negative", [[0, 1, 1, 1], [0, 0, 0, 0]], 18),
        ("nonzero", [[1, 1, 1, 1], [0, 0, 0, 0]], 22),
    ],
)
def test_dropped_samples_leave_the_denominator(
    keep: str, rows: list[list[float]], normalizer: float
) -> None:
    found = weighed(f', "sign": {{"keep": "{keep}"}}')
    assert found.token_weights_GS.tolist() == rows
    assert found.normalizer == normalizer


def test_truncated_traces_are_kept_masked_or_penalised() -> None:
    masked = weighed(', "sign": {"truncated": {"kind": "mask"}}')
    assert masked.normalizer == 22
    assert masked.token_weights_GS[0].tolist() == [1, 0, 1, 1]
    assert masked.advantages_GS[0].tolist() == [0.75, -0.25, -0.25, -0.25]
    # A buffer of 5 behind 5 tokens: 10 tokens lose 1, 6 lose 1/5. Rewards 1, -1, -1/5, 0.
    text = ', "sign": {"truncated": {"kind": "soft_penalty", "buffer_frac": 0.5}}'
    np.testing.assert_allclose(weighed(text).advantages_GS[0], [1.05, -0.95, -0.15, 0.05])


@pytest.mark.parametrize(
    ("reduction", "weights", "normalizer"),
    [
        ('{"kind": "token_mean"}', [1, 1, 1, 1], 32),
        ('{"kind": "sequence_mean"}', [1 / 4, 1 / 10, 1 / 6, 1 / 2], 8),
        ('{"kind": "sequence_sum"}', [1, 1, 1, 1], 8),
        ('{"kind": "budget_length"}', [1, 1, 1, 1], 80),
        ('{"kind": "constant_length", "length_tokens": 50}', [1, 1, 1, 1], 400),
    ],
)
def test_reductions_weigh_tokens_over_one_denominator(
    reduction: str, weights: list[float], normalizer: float
) -> None:
    found = weighed(f', "reduction": {reduction}')
    np.testing.assert_allclose(found.token_weights_GS[0], weights)
    assert found.normalizer == normalizer


def test_a_step_of_which_nothing_trains_has_a_denominator() -> None:
    flat = Samples(np.ones((1, 2)), np.array([[3, 3]]), np.zeros((1, 2), bool))
    options = LossOptions.model_validate_json('{"sign": {"keep": "positive"}}')
    found = weigh(flat, options, budget_tokens=4, stage_step=0)
    assert found.normalizer == 1.0
    assert not found.token_weights_GS.any()


def test_weights_follow_their_schedule() -> None:
    line = LinearSchedule(kind="linear", start=0.0, end=2.0, steps=4)
    assert [value_at(line, step) for step in (0, 1, 4, 9)] == [0.0, 0.5, 2.0, 2.0]
    steps = SteppedSchedule(kind="stepped", first=1.0, at_steps=(3, 5), values=(0.5, 0.0))
    assert [value_at(steps, step) for step in (0, 2, 3, 4, 5, 9)] == [1.0, 1.0, 0.5, 0.5, 0.0, 0.0]
    text = (
        ', "sign": {"negative": {"weight": {"kind": "linear", "start": 0, "end": 2, "steps": 4}}}'
    )
    assert weighed(text, stage_step=1).advantages_GS[0].tolist() == [0.75, -0.125, -0.125, -0.125]


def test_discounted_credit_falls_towards_the_start() -> None:
    options = Discounted(kind="discounted", discount=0.5)
    assert credit_of_tokens(3, options).tolist() == [0.25, 0.5, 1.0]
