"""How a sample's advantage is spread over its tokens without a critic."""

from typing import Annotated, Literal

from pydantic import Field

from e3mega.options import Fraction, Options


class Uniform(Options):
    """Every token has the whole advantage."""

    kind: Literal["uniform"]
    """Names the rule."""


class Discounted(Options):
    """Token t of T has discount^(T - t) of it: the discounted return of a reward at the end."""

    kind: Literal["discounted"]
    """Names the rule."""
    discount: Fraction
    """Factor per token of distance to the end; 1 is uniform."""


Credit = Annotated[Uniform | Discounted, Field(discriminator="kind")]
