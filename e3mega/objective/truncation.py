"""What is done with traces that reached their budget."""

from typing import Annotated, Literal

from pydantic import Field

from e3mega.options import Fraction, Options, PositiveFloat


class KeepTruncated(Options):
    """They train with the reward that the verifier gave, as in e3 (arXiv 2506.09026)."""

    kind: Literal["keep"]
    """Names the treatment."""


class MaskTruncated(Options):
    """They do not train and leave the denominator; the group's baseline still counts them.

    Overlong filtering of DAPO (arXiv 2503.14476, Sec. 3.4).
    """

    kind: Literal["mask"]
    """Names the treatment."""


class SoftPenalty(Options):
    """Before the advantage, the reward of long traces falls (DAPO, arXiv 2503.14476, Eq. 13).

    With L the budget and c = buffer_frac L, a trace of n tokens has
    min(0, (L - c - n) / c) factor added: nothing up to L - c, -factor at L.
    """

    kind: Literal["soft_penalty"]
    """Names the treatment."""
    buffer_frac: Fraction = 0.2
    """Share of the budget over which the penalty grows."""
    factor: PositiveFloat = 1.0
    """The penalty at the budget."""


Truncated = Annotated[KeepTruncated | MaskTruncated | SoftPenalty, Field(discriminator="kind")]
