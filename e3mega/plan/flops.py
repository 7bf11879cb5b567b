"""Counts tokens and floating-point operations of a stage's optimizer step."""

from dataclasses import dataclass

from e3mega.families.geometry import ModelOptions
from e3mega.plan.counts import active_matrix_sizes
from e3mega.plan.planfile import BudgetPlan, StagePlan


@dataclass(frozen=True, slots=True)
class StepWork:
    """What one optimizer step consumes if every sequence has its full length.

    Example: ``StepWork(256, 18_176, 6.9e10)``.
    """

    num_sequences: int
    max_tokens: int
    max_flops: float
    """Forward and backward; a recomputation of log-probabilities is not counted."""


def step_work(model: ModelOptions, stage: StagePlan, budget: BudgetPlan) -> StepWork:
    """The work of one step at one of the stage's budgets."""
    num_sequences = stage.rollout.prompts_per_step * stage.rollout.samples_per_prompt
    per_sequence = 3 * forward_flops(model, budget.max_sequence_tokens)
    return StepWork(
        num_sequences=num_sequences,
        max_tokens=num_sequences * budget.max_sequence_tokens,
        max_flops=num_sequences * per_sequence,
    )


def forward_flops(model: ModelOptions, num_tokens: float) -> float:
    """Operations of one forward pass over one sequence, LM head included.

    ``2 * entries of matrices * T``, of experts those that a token meets, plus
    ``4 * layers * heads * head_dim`` for each of the ``T (T + 1) / 2`` pairs of tokens that causal
    attention looks at.
    """
    pairs = num_tokens * (num_tokens + 1) / 2
    return 2.0 * active_matrix_sizes(model) * (num_tokens + pair_cost(model) * pairs)


def pair_cost(model: ModelOptions) -> float:
    """Operations of one pair of tokens in attention over those of one token in the matrices."""
    attention = 4 * model.num_layers * model.num_heads * model.head_dim
    return attention / (2.0 * active_matrix_sizes(model))
