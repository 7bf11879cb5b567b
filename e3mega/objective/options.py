"""The ``loss`` section: how samples are weighted, clipped and reduced."""

from enum import Enum

from e3mega.options import NonNegativeFloat, Options, PositiveFloat


class Advantage(Enum):
    """How a group's rewards become advantages."""

    CONSTANT = "constant"
    """Every sample has advantage 1: supervised learning."""
    GROUP_MEAN = "group_mean"
    """Reward less the mean of its group (Dr. GRPO, arXiv 2503.20783)."""
    GROUP_MEAN_STD = "group_mean_std"
    """The same over the sample standard deviation plus 1e-6 (GRPO, arXiv 2402.03300)."""


class Ratio(Enum):
    """What multiplies the advantage of a token."""

    NONE = "none"
    """The log-probability itself: plain policy gradient, or supervised learning."""
    TOKEN = "token"
    """The ratio to the log-probabilities at the start of the round, clipped (PPO)."""


class Correction(Enum):
    """What is done about the difference between the sampling and the training policy."""

    NONE = "none"
    """Nothing; allowed at ``rollout.max_lag: 0`` only."""
    TRUNCATED_TOKEN = "truncated_token"
    """Multiply each token's term by its importance weight, capped (TIS)."""


class LossOptions(Options):
    """The whole of a loss variant."""

    advantage: Advantage = Advantage.GROUP_MEAN_STD
    """How a group's rewards become advantages."""
    positive_weight: NonNegativeFloat = 1.0
    """Factor on samples of positive advantage."""
    negative_weight: NonNegativeFloat = 1.0
    """Factor on samples of negative advantage; 0 is the positive-only ablation."""
    ratio: Ratio = Ratio.TOKEN
    """What multiplies the advantage of a token."""
    clip_low: PositiveFloat = 0.2
    """The ratio is clipped below at 1 - clip_low."""
    clip_high: PositiveFloat = 0.2
    """The ratio is clipped above at 1 + clip_high."""
    dual_clip: PositiveFloat | None = 3.0
    """Upper bound on the ratio for negative advantages (arXiv 1912.09729); null for none."""
    entropy_coefficient: NonNegativeFloat = 0.0
    """Weight of an entropy bonus, averaged over the step's tokens."""
    correction: Correction = Correction.NONE
    """What is done about rollouts of another policy than the one trained."""
    correction_cap: PositiveFloat = 2.0
    """Cap of the importance weights of the correction."""
