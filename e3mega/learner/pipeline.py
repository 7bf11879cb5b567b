"""Runs Megatron's pipeline schedule over the bins of a batch."""

from collections.abc import Callable, Iterator
from functools import partial

import torch
from megatron.core.pipeline_parallel import get_forward_backward_func

from e3mega.learner.logprobs import TokenScores, score_tokens
from e3mega.learner.micro_batch import MicroBatch, RoundScores, bin_order, micro_batch, padded
from e3mega.mcore.build import LearnerModel
from e3mega.plan.topology import num_bins_multiple
from e3mega.rollout.batch import PackedBatch

# Shape letters: P tokens of a bin on this context-parallel rank, W width of the model.


def run_bins(
    learner: LearnerModel,
    batch: PackedBatch,
    known: RoundScores,
    loss_of: Callable[..., object],
    *,
    temperature: float,
    forward_only: bool,
    head: Callable[[MicroBatch, torch.Tensor, torch.Tensor], None] | None = None,
) -> None:
    """Run this data-parallel rank's bins forward, and backward unless told not to.

    All ranks call it. The last stage calls ``loss_of(micro_batch, scores_3P)`` for every bin,
    ``scores_3P`` being a row of each of ``TokenScores``. ``head`` is called in their place with
    the last hidden states, (P, 1, W), and this rank's rows of the LM head.
    """
    layout = learner.grid.layout
    num_bins = len(batch.tokens_NT)
    assert num_bins % num_bins_multiple(layout) == 0, "the ranks share the bins evenly"
    bins = range(learner.grid.place.dp_rank, num_bins, layout.dp)
    orders = [bin_order(batch, number, layout) for number in bins]
    longest = max(len(order.source_A) for order in orders)
    if layout.pp > 1:
        # Stages exchange activations of one agreed length.
        orders = [padded(order, longest) for order in orders]

    def micro_batches() -> Iterator[MicroBatch]:
        for row, (number, order) in enumerate(zip(bins, orders, strict=True)):
            yield micro_batch(learner, batch, number, order, known, row)

    def forward_step(
        micro_batches: Iterator[MicroBatch], chunk: torch.nn.Module
    ) -> tuple[torch.Tensor, Callable[..., object]]:
        micro = next(micro_batches)
        scores_3P = chunk(
            micro.tokens_1P,
            micro.positions_1P,
            None,
            packed_seq_params=micro.packed,
            output_processor=partial(_head_scores, learner, temperature, micro, head),
        )
        return scores_3P, partial(loss_of, micro)

    # Every chunk of an interleaved stage takes the micro-batches in its own time.
    iterators = [micro_batches() for _ in learner.chunks]
    get_forward_backward_func()(
        forward_step_func=forward_step,
        data_iterator=iterators if len(iterators) > 1 else iterators[0],
        model=list[torch.nn.Module](learner.chunks),
        num_microbatches=len(bins),
        # Megatron divides it among context-parallel and tensor-parallel ranks.
        seq_length=longest,
        micro_batch_size=1,
        forward_only=forward_only,
        collect_non_loss_data=forward_only,
    )


def token_scores(scores_3P: torch.Tensor) -> TokenScores:
    """The rows that ``run_bins`` gives, by their names."""
    logprobs_P, entropy_P, collision_P = scores_3P
    return TokenScores(logprobs_P, entropy_P, collision_P.detach())


def _head_scores(
    learner: LearnerModel,
    temperature: float,
    micro: MicroBatch,
    head: Callable[[MicroBatch, torch.Tensor, torch.Tensor], None] | None,
    *,
    hidden_states: torch.Tensor,
    output_layer: torch.nn.Module,
    output_weight: torch.Tensor | None,
    **_: object,
) -> torch.Tensor:
    """What the last stage gives in place of logits; Megatron calls it with much else."""
    hidden_P1W, head_VW = output_layer(hidden_states, weight=output_weight)
    if head is not None:
        head(micro, hidden_P1W, head_VW)
        return hidden_P1W.new_zeros(3, len(micro.targets_P))
    scores = score_tokens(learner, hidden_P1W, head_VW, micro.targets_P, temperature=temperature)
    return torch.stack([scores.logprobs_T, scores.entropy_T, scores.collision_T])
