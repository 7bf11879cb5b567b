"""How the terms of tokens become one number: weights of tokens and one denominator a step."""

from typing import Annotated, Literal

from pydantic import Field

from e3mega.options import Options, TokenCount


class TokenMean(Options):
    """Over all tokens of the step that train: every token weighs the same (DAPO, e3)."""

    kind: Literal["token_mean"]
    """Names the reduction."""


class SequenceMean(Options):
    """The mean over the samples that train of the mean over their tokens (GRPO's paper, GSPO)."""

    kind: Literal["sequence_mean"]
    """Names the reduction."""


class SequenceSum(Options):
    """The mean over all samples of the sum over their tokens: the plain policy gradient."""

    kind: Literal["sequence_sum"]
    """Names the reduction."""


class BudgetLength(Options):
    """The sum over tokens, over all samples times the budget (Dr. GRPO, arXiv 2503.20783)."""

    kind: Literal["budget_length"]
    """Names the reduction."""


class ConstantLength(Options):
    """The same with a length that does not follow the budget."""

    kind: Literal["constant_length"]
    """Names the reduction."""
    length_tokens: TokenCount
    """Tokens that a sample counts as."""


Reduction = Annotated[
    TokenMean | SequenceMean | SequenceSum | BudgetLength | ConstantLength,
    Field(discriminator="kind"),
]
