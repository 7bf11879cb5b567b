"""The learning rate as a pure function of a stage's options and step."""

import math

from e3mega.spec.schema.optimizer import LearningRateSchedule, OptimizerOptions


def learning_rate(options: OptimizerOptions, *, stage_step: int, max_steps: int) -> float:
    """Learning rate of the stage's step number ``stage_step``, from 0, of at most ``max_steps``.

    It rises linearly over ``warmup_steps`` (step k has (k + 1) / warmup_steps of the peak), then
    follows the schedule; a cosine and a wsd reach the floor at step ``max_steps - 1``.
    """
    peak, floor = options.learning_rate, options.min_learning_rate
    if stage_step < options.warmup_steps:
        return peak * (stage_step + 1) / options.warmup_steps
    if options.schedule is LearningRateSchedule.CONSTANT:
        return peak
    if options.schedule is LearningRateSchedule.WSD:
        finished = stage_step + 1 - (max_steps - options.decay_steps)
        return peak - (peak - floor) * min(1.0, max(0.0, finished / options.decay_steps))
    length = max(1, max_steps - 1 - options.warmup_steps)
    progress = min(1.0, (stage_step - options.warmup_steps) / length)
    return floor + (peak - floor) * 0.5 * (1.0 + math.cos(math.pi * progress))
