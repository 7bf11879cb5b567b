"""The learning rate over a stage."""

from typing import Any

import pytest
from megatron.core.optimizer_param_scheduler import OptimizerParamScheduler

from e3mega.learner.schedule import learning_rate
from e3mega.spec.schema.optimizer import LearningRateSchedule, OptimizerOptions


def _rates(options: OptimizerOptions, max_steps: int) -> list[float]:
    return [
        learning_rate(options, stage_step=step, max_steps=max_steps) for step in range(max_steps)
    ]


def _megatron(options: OptimizerOptions, *, style: str, num_steps: int, end: int) -> float:
    """Megatron's learning rate after ``num_steps`` of ``end`` steps."""
    scheduler: Any = object.__new__(OptimizerParamScheduler)
    scheduler.lr_warmup_steps = options.warmup_steps
    scheduler.init_lr = 0.0
    scheduler.lr_decay_style = style
    scheduler.lr_decay_steps = end
    scheduler.wsd_decay_steps = options.decay_steps
    scheduler.lr_wsd_decay_style = "linear"
    scheduler.num_steps = num_steps
    scheduler.max_lr, scheduler.min_lr = options.learning_rate, options.min_learning_rate
    return scheduler.get_lr({})


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
    theirs = [_megatron(options, style="cosine", num_steps=step, end=8) for step in range(3, 9)]
    assert rates[3:] == pytest.approx(theirs)


@pytest.mark.parametrize("decay_steps", [1, 4, 7])
def test_a_wsd_has_the_rates_of_megatron(decay_steps: int) -> None:
    options = OptimizerOptions(
        learning_rate=1.0,
        min_learning_rate=0.1,
        schedule=LearningRateSchedule.WSD,
        warmup_steps=3,
        decay_steps=decay_steps,
    )
    theirs = [_megatron(options, style="WSD", num_steps=step, end=10) for step in range(1, 11)]
    rates = _rates(options, 10)
    assert rates == pytest.approx(theirs)
    assert rates[-1] == pytest.approx(0.1)
    assert rates.count(1.0) == 10 - 2 - decay_steps, "it stays between rise and fall"


def test_a_stage_of_one_step_has_a_rate() -> None:
    options = OptimizerOptions(learning_rate=1.0, schedule=LearningRateSchedule.COSINE)
    assert _rates(options, 1) == [1.0]
