"""How samples of positive and of negative advantage are weighed, kept and selected."""

from enum import Enum
from typing import Annotated, Literal

from pydantic import Field

from e3mega.objective.truncation import KeepTruncated, Truncated
from e3mega.options import Fraction, NonNegativeFloat, Options, Scheduled


class Keep(Enum):
    """Which samples train; the others leave loss, KL, entropy and denominator."""

    ALL = "all"
    """All of them, those of advantage 0 included."""
    POSITIVE = "positive"
    """Those of positive advantage: the e3 paper's ablation without negative gradients."""
    NEGATIVE = "negative"
    """Those of negative advantage."""
    NONZERO = "nonzero"
    """Those of any advantage but 0."""


class NthrTokens(Options):
    """Tokens of wrong samples that raise the likelihood of right ones are punished less.

    NTHR (arXiv 2505.18830): the score of token k' of a wrong sample j is
    sum over the tokens (i, k) of the group's right samples of
    <e_y - pi, e_y' - pi'> <h, h'>, with h the input of the output layer. Where it is above
    beta times the least mean score of a right sample, the advantage is multiplied by ``factor``.
    Costs a forward pass of the step, and one matrix of vocabulary x hidden at a time.
    """

    kind: Literal["nthr"]
    """Names the selection."""
    beta: NonNegativeFloat = 1.0
    """Height of the threshold."""
    factor: Fraction = 0.0
    """What is left of the advantage of the tokens above it."""


class BalancedNthrTokens(Options):
    """The same with a factor of 2 |1/2 - p|, p the share of right samples in the group."""

    kind: Literal["nthr_balanced"]
    """Names the selection."""
    beta: NonNegativeFloat = 1.0
    """Height of the threshold."""


NegativeTokens = Annotated[NthrTokens | BalancedNthrTokens, Field(discriminator="kind")]


class PositiveSide(Options):
    """Samples of positive advantage."""

    weight: Scheduled = 1.0
    """Factor on their advantage; they stay in the denominator at 0 too."""


class NegativeSide(Options):
    """Samples of negative advantage."""

    weight: Scheduled = 1.0
    """Factor on their advantage; they stay in the denominator at 0 too."""
    tokens: NegativeTokens | None = None
    """Which of their tokens are punished less; null for none."""


class SignRule(Options):
    """What is done with samples by the sign of their advantage."""

    positive: PositiveSide = PositiveSide()
    """Samples of positive advantage."""
    negative: NegativeSide = NegativeSide()
    """Samples of negative advantage."""
    keep: Keep = Keep.ALL
    """Which samples train."""
    truncated: Truncated = KeepTruncated(kind="keep")
    """What is done with traces that reached their budget."""
