"""What one optimizer step trains on, from groups and the loss, or from given traces."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from e3mega.objective.options import LossOptions
from e3mega.objective.samples import Samples, credit_of_tokens, weigh
from e3mega.rollout.records import FinishReason, Group, TrainSequence
from e3mega.tasks.interface import Trace


@dataclass(frozen=True, slots=True)
class StepData:
    """The sequences of a step, and the denominator of its loss.

    Example: ``StepData((sequence,), 40.0)``.
    """

    sequences: tuple[TrainSequence, ...]
    normalizer: float


def step_of_groups(
    groups: Sequence[Group], loss: LossOptions, *, budget_tokens: int, stage_step: int
) -> StepData:
    """The groups of a step with their advantages; ``stage_step`` counts the stage's from 0."""
    rollouts_GS = [group.rollouts for group in groups]
    num_tokens_GS = np.array([[len(r.completion.token_ids) for r in row] for row in rollouts_GS])
    is_cut = FinishReason.LENGTH
    samples = Samples(
        rewards_GS=np.array([[r.marks.reward for r in row] for row in rollouts_GS]),
        num_tokens_GS=num_tokens_GS,
        is_truncated_GS=np.array(
            [[r.completion.finish_reason is is_cut for r in row] for row in rollouts_GS]
        ),
    )
    weighed = weigh(samples, loss, budget_tokens=budget_tokens, stage_step=stage_step)
    sequences = tuple(
        TrainSequence(
            token_ids=group.request.prompt.token_ids + rollout.completion.token_ids,
            num_prompt_tokens=len(group.request.prompt.token_ids),
            advantages=tuple(
                (weighed.advantages_GS[g, s] * credit_of_tokens(length, loss.credit)).tolist()
            ),
            rollout_logprobs=rollout.completion.logprobs,
            loss_mask=(float(weighed.token_weights_GS[g, s]),) * length,
            is_correct=rollout.marks.reward > 0,
            group=g,
        )
        for g, group in enumerate(groups)
        for s, rollout in enumerate(group.rollouts)
        for length in (num_tokens_GS[g, s],)
    )
    return StepData(sequences, weighed.normalizer)


def step_of_traces(traces: Sequence[Trace]) -> StepData:
    """Given traces, every token of them with advantage 1; the mean over their weights."""
    sequences = tuple(
        TrainSequence(
            token_ids=trace.prompt.token_ids + trace.token_ids,
            num_prompt_tokens=len(trace.prompt.token_ids),
            advantages=(1.0,) * len(trace.token_ids),
            rollout_logprobs=(0.0,) * len(trace.token_ids),
            loss_mask=trace.weights,
            is_correct=trace.has_hit,
            group=number,
        )
        for number, trace in enumerate(traces)
    )
    return StepData(sequences, sum(sum(trace.weights) for trace in traces))
