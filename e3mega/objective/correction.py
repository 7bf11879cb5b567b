"""What is done about the difference between the sampling and the training policy."""

from typing import Annotated, Literal

from pydantic import Field

from e3mega.objective.ratio import Level
from e3mega.options import NonNegativeFloat, Options, PositiveFloat


class TruncatedWeights(Options):
    """Terms are multiplied by min(w, max_weight), w = pi_learner / pi_vLLM at the round's start."""

    kind: Literal["truncated"]
    """Names the correction."""
    level: Level = Level.TOKEN
    """w of a token, or of the whole completion."""
    max_weight: PositiveFloat = 2.0
    """Cap of the weights."""


class MaskedWeights(Options):
    """Terms are multiplied by w where it is within the bounds, and by 0 elsewhere."""

    kind: Literal["masked"]
    """Names the correction."""
    level: Level = Level.TOKEN
    """w of a token, or of the whole completion."""
    min_weight: NonNegativeFloat = 0.0
    """Least weight that counts."""
    max_weight: PositiveFloat = 2.0
    """Largest weight that counts."""


Correction = Annotated[TruncatedWeights | MaskedWeights, Field(discriminator="kind")]
