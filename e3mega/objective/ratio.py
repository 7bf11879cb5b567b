"""What multiplies the advantage of a token: the kinds; ``learner.surrogate`` computes them."""

from enum import Enum
from typing import Annotated, Literal

from pydantic import Field

from e3mega.options import NonNegativeFloat, Options, PositiveFloat


class Level(Enum):
    """What a ratio or an importance weight is of."""

    TOKEN = "token"
    """One token."""
    SEQUENCE = "sequence"
    """The whole completion: the product over its tokens."""


class NoRatio(Options):
    """The log-probability itself, A log pi: plain policy gradient, or supervised learning."""

    kind: Literal["none"]
    """Names the ratio."""


class TokenRatio(Options):
    """min(r A, clip(r, 1 - clip_low, 1 + clip_high) A), r = pi / pi_old of the token (PPO).

    pi_old is the learner's own at the start of the round. For A < 0 ``dual_clip`` c bounds it
    from below by c A (arXiv 1912.09729). The two-sided clip of INTELLECT-2 (arXiv 2505.07291),
    min(min(r, delta) A, clip(r) A), is the same function with delta for c.
    """

    kind: Literal["token"]
    """Names the ratio."""
    clip_low: PositiveFloat = 0.2
    """The ratio is clipped below at 1 - clip_low, where the advantage is negative."""
    clip_high: PositiveFloat = 0.2
    """The ratio is clipped above at 1 + clip_high, where the advantage is positive."""
    dual_clip: PositiveFloat | None = None
    """Upper bound of the ratio where the advantage is negative; null for none."""


class SequenceRatio(Options):
    """The same clip of s = (pi / pi_old of the completion)^(1 / its tokens) (GSPO, 2507.18071)."""

    kind: Literal["sequence"]
    """Names the ratio."""
    clip_low: PositiveFloat = 3e-4
    """The ratio is clipped below at 1 - clip_low, where the advantage is negative."""
    clip_high: PositiveFloat = 4e-4
    """The ratio is clipped above at 1 + clip_high, where the advantage is positive."""


class Interval(Options):
    """Bounds of a weight."""

    min: NonNegativeFloat = 0.0
    """It is raised to this."""
    max: PositiveFloat = 1.0
    """It is lowered to this."""


class TruncatedRatio(Options):
    """A clip(r) log pi, with no gradient through the ratio and bounds for each sign.

    At token level with one upper bound it is CISPO (arXiv 2506.13585); at sequence level with
    [1, 1] for positive and [0, 1] for negative samples it is TOPR (arXiv 2503.14286).
    """

    kind: Literal["truncated"]
    """Names the ratio."""
    level: Level = Level.TOKEN
    """Of a token, or of the whole completion."""
    positive: Interval = Interval()
    """Bounds where the advantage is positive."""
    negative: Interval = Interval()
    """Bounds where the advantage is negative."""


class SoftGate(Options):
    """A (4 / tau) sigmoid(tau (r - 1)): a smooth clip with a temperature per sign.

    SAPO (arXiv 2511.20347).
    """

    kind: Literal["soft_gate"]
    """Names the ratio."""
    positive_temperature: PositiveFloat = 1.0
    """tau where the advantage is positive."""
    negative_temperature: PositiveFloat = 1.05
    """tau where the advantage is negative; larger lets off-policy tokens count less."""


Ratio = Annotated[
    NoRatio | TokenRatio | SequenceRatio | TruncatedRatio | SoftGate, Field(discriminator="kind")
]
