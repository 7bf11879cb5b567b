"""The ``optimizer`` section: AdamW and its learning-rate schedule."""

from enum import Enum

from e3mega.options import Fraction, NonNegative, NonNegativeFloat, Options, PositiveFloat


class LearningRateSchedule(Enum):
    """How the learning rate moves within a stage after its warm-up."""

    CONSTANT = "constant"
    """It stays."""
    COSINE = "cosine"
    """Half a cosine down to ``min_learning_rate`` at the stage's last possible step."""
    WSD = "wsd"
    """It stays, then falls in a line to ``min_learning_rate`` over the last ``decay_steps``."""


class Moments(Enum):
    """What a stage does with the moments of the stage before it."""

    CARRY = "carry"
    """It goes on with them."""
    RESET = "reset"
    """It starts with none: both moments and Adam's count of steps are 0."""


class OptimizerOptions(Options):
    """AdamW with Megatron's distributed optimizer."""

    learning_rate: NonNegativeFloat = 1e-6
    """Peak learning rate."""
    min_learning_rate: NonNegativeFloat = 0.0
    """Floor of the schedule."""
    schedule: LearningRateSchedule = LearningRateSchedule.CONSTANT
    """How the learning rate moves within a stage."""
    warmup_steps: NonNegative = 0
    """Steps of linear rise from 0 at the start of a stage."""
    decay_steps: NonNegative = 0
    """Last possible steps of the stage over which a wsd schedule falls; 0 for the others."""
    moments: Moments = Moments.CARRY
    """What the stage does with the moments of the stage before it."""
    beta1: Fraction = 0.9
    """Decay of the first moment."""
    beta2: Fraction = 0.95
    """Decay of the second moment."""
    eps: PositiveFloat = 1e-8
    """Adam's epsilon."""
    weight_decay: NonNegativeFloat = 0.0
    """Decoupled weight decay of matrices."""
    clip_grad_norm: PositiveFloat = 1.0
    """Largest norm of a step's gradient."""
