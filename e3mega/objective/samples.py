"""Turns a step's samples into advantages, token weights and the step's denominator."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from e3mega.objective.baselines import advantages
from e3mega.objective.credit import Credit, Uniform
from e3mega.objective.options import LossOptions
from e3mega.objective.reduction import (
    BudgetLength,
    ConstantLength,
    Reduction,
    SequenceMean,
    SequenceSum,
    TokenMean,
)
from e3mega.objective.sign_rule import Keep, SignRule
from e3mega.objective.truncation import MaskTruncated, SoftPenalty, Truncated
from e3mega.options import value_at

# Shape letters: G groups (prompts) of a step, S samples of a group.


@dataclass(frozen=True, slots=True)
class Samples:
    """What a step's samples are judged by, each (G, S)."""

    rewards_GS: NDArray[np.float64]
    num_tokens_GS: NDArray[np.int64]
    """Tokens of the completions."""
    is_truncated_GS: NDArray[np.bool_]
    """Which completions reached their budget."""


@dataclass(frozen=True, slots=True)
class Weighed:
    """What the loss does with each sample, each (G, S)."""

    advantages_GS: NDArray[np.float64]
    """Times the weight of their sign."""
    token_weights_GS: NDArray[np.float64]
    """Weight of each token of the sample over the denominator; 0 where it does not train."""
    normalizer: float
    """The denominator: of the whole step, on all ranks."""


def weigh(samples: Samples, loss: LossOptions, *, budget_tokens: int, stage_step: int) -> Weighed:
    """The sample side of a loss, at a step of the stage counted from 0."""
    rule = loss.sign
    rewards_GS = shaped_rewards(
        samples.rewards_GS, samples.num_tokens_GS, rule.truncated, budget_tokens=budget_tokens
    )
    advantages_GS = advantages(rewards_GS, samples.num_tokens_GS, loss.advantage)
    trains_GS = is_kept(advantages_GS, rule.keep)
    if isinstance(rule.truncated, MaskTruncated):
        trains_GS = trains_GS & ~samples.is_truncated_GS
    weights_GS, normalizer = reduce(
        samples.num_tokens_GS, trains_GS, loss.reduction, budget_tokens=budget_tokens
    )
    return Weighed(weighted(advantages_GS, rule, stage_step=stage_step), weights_GS, normalizer)


def credit_of_tokens(num_tokens: int, options: Credit) -> NDArray[np.float64]:
    """The share of the advantage that each token of a completion has, the last one 1."""
    if isinstance(options, Uniform):
        return np.ones(num_tokens)
    return options.discount ** np.arange(num_tokens - 1, -1, -1, dtype=np.float64)


def shaped_rewards(
    rewards_GS: NDArray[np.float64],
    num_tokens_GS: NDArray[np.int64],
    options: Truncated,
    *,
    budget_tokens: int,
) -> NDArray[np.float64]:
    """The rewards that the advantages are made from."""
    if not isinstance(options, SoftPenalty):
        return rewards_GS
    buffer = options.buffer_frac * budget_tokens
    penalty_GS = (budget_tokens - buffer - num_tokens_GS) / buffer * options.factor
    return rewards_GS + np.minimum(0.0, penalty_GS)


def weighted(
    advantages_GS: NDArray[np.float64], rule: SignRule, *, stage_step: int
) -> NDArray[np.float64]:
    """Advantages times the weight of their side at a step of the stage, counted from 0."""
    positive = value_at(rule.positive.weight, stage_step)
    negative = value_at(rule.negative.weight, stage_step)
    return advantages_GS * np.where(advantages_GS > 0, positive, negative)


def is_kept(advantages_GS: NDArray[np.float64], keep: Keep) -> NDArray[np.bool_]:
    """Which samples train, by their advantages before the weights."""
    match keep:
        case Keep.ALL:
            return np.ones(advantages_GS.shape, np.bool_)
        case Keep.POSITIVE:
            return advantages_GS > 0
        case Keep.NEGATIVE:
            return advantages_GS < 0
        case Keep.NONZERO:
            return advantages_GS != 0


def reduce(
    num_tokens_GS: NDArray[np.int64],
    trains_GS: NDArray[np.bool_],
    options: Reduction,
    *,
    budget_tokens: int,
) -> tuple[NDArray[np.float64], float]:
    """The weight of each token of a sample, (G, S), 0 where it does not train; the denominator.

    Their quotient is what multiplies a token's term. The denominator is of the whole step, so the
    result does not depend on ranks or micro-batches; it is 1 when nothing trains.
    """
    weights_GS = trains_GS.astype(np.float64)
    match options:
        case TokenMean():
            denominator = float((num_tokens_GS * trains_GS).sum())
        case SequenceMean():
            weights_GS = weights_GS / np.maximum(1, num_tokens_GS)
            denominator = float(trains_GS.sum())
        case SequenceSum():
            denominator = float(trains_GS.size)
        case BudgetLength():
            denominator = float(trains_GS.size * budget_tokens)
        case ConstantLength():
            denominator = float(trains_GS.size * options.length_tokens)
    return weights_GS, denominator or 1.0
