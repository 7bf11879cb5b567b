"""Budget and exit rules of a stage."""

from typing import Annotated, Literal

from pydantic import Field

from e3mega.options import Fraction, Options, Positive, PositiveFloat, TokenCount


class FixedBudget(Options):
    """A token budget chosen by the author."""

    kind: Literal["fixed"]
    """Names the rule."""
    tokens: TokenCount
    """The most tokens a completion may have."""


class CoupledBudget(Options):
    """The coupled rule: the smallest B with J(2B) <= kappa J(B) (arXiv 2506.09026, Eq. 6.1)."""

    kind: Literal["coupled"]
    """Names the rule."""
    candidates: tuple[TokenCount, ...]
    """Budgets tried, ascending."""
    kappa: PositiveFloat = 1.2
    """How much doubling the budget may still help."""
    num_problems: Positive = 512
    """Problems of the stage's own data that J is measured on."""
    samples_per_problem: Positive = 2
    """Generations of each problem; every budget is read off the same ones."""


Budget = Annotated[FixedBudget | CoupledBudget, Field(discriminator="kind")]


class StepsExit(Options):
    """The stage ends after a number of optimizer steps."""

    kind: Literal["steps"]
    """Names the rule."""
    steps: Positive
    """Optimizer steps of the stage."""


class RecognitionExit(Options):
    """A warm-up ends when the model tells hits from misses on held-out attempts."""

    kind: Literal["recognition"]
    """Names the rule."""
    max_steps: Positive
    """Cap of optimizer steps; the stage ends there whatever the rates are."""
    min_steps: Positive = 1
    """Steps before the rates are first measured."""
    every_steps: Positive = 50
    """Steps between measurements; a whole number of rounds."""
    num_attempts: Positive = 512
    """Held-out attempts measured, half of them hits."""
    min_hit_frac: Fraction = 0.95
    """Share of hits that must be called hits."""
    max_false_hit_frac: Fraction = 0.05
    """Share of misses that may be called hits."""


Exit = Annotated[StepsExit | RecognitionExit, Field(discriminator="kind")]
