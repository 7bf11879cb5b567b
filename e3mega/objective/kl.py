"""The KL term: its estimator and the policy it is measured to."""

from enum import Enum
from typing import Annotated, Literal

from pydantic import Field

from e3mega.options import Fraction, Options, Positive, PositiveFloat


class Estimator(Enum):
    """Estimator of KL(pi || ref) at a sampled token, with d = log pi - log ref."""

    K1 = "k1"
    """d: unbiased; on policy its gradient is 0 in expectation."""
    K2 = "k2"
    """d^2 / 2: on policy its gradient is that of the KL."""
    K3 = "k3"
    """exp(-d) - 1 + d: unbiased and never negative; verl's ``low_var_kl``."""


class StartReference(Options):
    """The weights that the run started from."""

    kind: Literal["start"]
    """Names the reference."""


class StageReference(Options):
    """The weights that the stage started from, as in the e3 paper."""

    kind: Literal["stage"]
    """Names the reference."""


class MovingReference(Options):
    """The stage's first weights, drawn towards the current ones every so many steps."""

    kind: Literal["moving"]
    """Names the reference."""
    every_steps: Positive
    """Steps of the stage between moves; a whole number of rounds."""
    mix: Fraction = 1.0
    """Share of the current weights in the new reference; 1 replaces it. Less needs float32."""


Reference = Annotated[
    StartReference | StageReference | MovingReference, Field(discriminator="kind")
]


class KlOptions(Options):
    """A penalty on the distance to a reference policy, reduced like the loss."""

    coefficient: PositiveFloat = 0.001
    """Weight of the term."""
    estimator: Estimator = Estimator.K3
    """How the distance is estimated at a token."""
    reference: Reference = StageReference(kind="stage")
    """The policy it is measured to; its weights are a copy on the host."""
