"""The learning rate over a stage."""

import pytest

from e3mega.learner.schedule import learning_rate
from e3mega.spec.schema.optimizer import LearningRateSchedule, OptimizerOptions


def _rates(options: OptimizerOptions, max_steps: int) -> list[float]:
    return [
        learning_rate(options, stage_step=step, max_steps=max_steps) for step in range(max_steps)
    ]


def test_it_rises_over_the_warm_up_and_then_stays() -> None:
    options = OptimizerOptions(learning_rate=0.8, warmup_steps=4)
    assert _rates(options, 7) == pytest.approx([0.2, 0.4, 0.6, 0.8, 0.8, 0.8, 0.8])


def test_a_cosine_falls_from_the_peak_to_the_floor_at_the_last_step() -> None:
    options = OptimizerOptions(
        learning_rate=1.0,
        min_learning_rate=0.2,
        schedule=LearningRateSchedule.COSINE,
        warmup_steps=2,
    )
    rates = _rates(options, 9)
    assert rates[:3] == pytest.approx([0.5, 1.0, 1.0])
    assert rates[5] == pytest.approx(0.6), "half-way it is the mean"
    assert rates[-1] == pytest.approx(0.2)
    assert rates[2:] == sorted(rates[2:], reverse=True)


def test_a_stage_of_one_step_has_a_rate() -> None:
    options = OptimizerOptions(learning_rate=1.0, schedule=LearningRateSchedule.COSINE)
    assert _rates(options, 1) == [1.0]
