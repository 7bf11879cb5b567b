"""Which tokens of wrong samples NTHR punishes less: scores from hidden states and logits.

The score of a token of one sample is the inner product of its gradient at the LM head, the outer
product of e_y - pi and h, with the sum of those of all tokens of the group's right samples (arXiv
2505.18830). That sum is one matrix of vocabulary x width per group, summed over the ranks; it
takes one forward pass to fill and one to be used.
"""

from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
import torch.distributed as dist
from megatron.core.tensor_parallel.mappings import gather_from_sequence_parallel_region

from e3mega.learner.micro_batch import NOTHING_KNOWN, Floats, MicroBatch
from e3mega.learner.pipeline import run_bins
from e3mega.mcore.build import LearnerModel
from e3mega.objective.sign_rule import NegativeTokens, NthrTokens
from e3mega.rollout.batch import PackedBatch

# Shape letters: G groups of the step, M bins of this data-parallel rank, T tokens of a bin, P of
# those the tokens of a micro-batch, V rows of the vocabulary on this rank, W width of the model.


@dataclass(slots=True)
class _Scores:
    """What the two passes leave on this rank."""

    matrices: dict[int, torch.Tensor] = field(default_factory=dict[int, torch.Tensor])
    """Sums of outer products over right samples, (V, W), by group."""
    shape: tuple[int, ...] = ()
    """Of a matrix."""
    tokens: list[tuple[MicroBatch, torch.Tensor]] = field(
        default_factory=list[tuple[MicroBatch, torch.Tensor]]
    )
    """Each bin, and the score of the token that each place predicts."""


def advantage_factors(
    learner: LearnerModel, batch: PackedBatch, options: NegativeTokens, *, temperature: float
) -> Floats | None:
    """Factor on the advantage of each token of this rank's bins, (M, T), 1 but for the selected.

    None on ranks that are not in the last pipeline stage. All ranks call it; a sequence lies on
    one rank whole (no context parallelism).
    """
    grid, scores = learner.grid, _Scores()
    for head in (_add_outer, _score):
        with torch.no_grad():
            run_bins(
                learner,
                batch,
                NOTHING_KNOWN,
                lambda *_, **__: None,
                temperature=temperature,
                forward_only=True,
                head=partial(head, learner, scores, temperature),
            )
        if head is _add_outer and grid.is_last_stage:
            _sum_over_ranks(learner, batch, scores)
    return _selected(learner, batch, scores, options)


def _hidden(learner: LearnerModel, hidden_P1W: torch.Tensor) -> torch.Tensor:
    if learner.grid.layout.sequence_parallel:
        hidden_P1W = gather_from_sequence_parallel_region(hidden_P1W, group=learner.grid.groups.tp)
    return hidden_P1W[:, 0].float()


def _head_gradient(
    learner: LearnerModel,
    hidden_PW: torch.Tensor,
    head_VW: torch.Tensor,
    targets_P: torch.Tensor,
    temperature: float,
) -> torch.Tensor:
    """e_y - pi at each token, this rank's rows of the vocabulary."""
    grid, num_words = learner.grid, learner.model.vocab_size
    logits_PV = hidden_PW @ head_VW.float().T / temperature
    first = len(head_VW) * grid.place.tp_rank
    logits_PV[:, max(0, num_words - first) :] = -torch.inf
    top_P = logits_PV.amax(1)
    if grid.layout.tp > 1:
        dist.all_reduce(top_P, dist.ReduceOp.MAX, grid.groups.tp)
    weights_PV = (logits_PV - top_P[:, None]).exp()
    total_P = weights_PV.sum(1)
    if grid.layout.tp > 1:
        dist.all_reduce(total_P, group=grid.groups.tp)
    gradient_PV = -weights_PV / total_P[:, None]
    local_P = targets_P - first
    is_here_P = (local_P >= 0) & (local_P < len(head_VW))
    rows_P = torch.arange(len(targets_P), device=targets_P.device)[is_here_P]
    gradient_PV[rows_P, local_P[is_here_P]] += 1.0
    return gradient_PV


def _add_outer(
    learner: LearnerModel,
    scores: _Scores,
    temperature: float,
    micro: MicroBatch,
    hidden_P1W: torch.Tensor,
    head_VW: torch.Tensor,
) -> None:
    hidden_PW = _hidden(learner, hidden_P1W)
    gradient_PV = _head_gradient(learner, hidden_PW, head_VW, micro.targets_P, temperature)
    scores.shape = tuple(head_VW.shape)
    is_right_P = (micro.loss.mask_T > 0) & (micro.loss.correct_T > 0)
    for group in micro.groups_P[is_right_P].unique().tolist():
        own_P = is_right_P & (micro.groups_P == group)
        outer_VW = gradient_PV[own_P].T @ hidden_PW[own_P]
        before_VW = scores.matrices.get(group)
        scores.matrices[group] = outer_VW if before_VW is None else before_VW + outer_VW


def _sum_over_ranks(learner: LearnerModel, batch: PackedBatch, scores: _Scores) -> None:
    """Sum each group's matrix over the data-parallel ranks, whichever hold its right samples."""
    if learner.grid.layout.dp == 1:
        return
    right = (batch.mask_NT > 0) & (batch.correct_NT > 0)
    for group in np.unique(batch.groups_NT[right]).tolist():
        own_VW = scores.matrices.get(group)
        matrix_VW = torch.zeros(scores.shape, device=learner.grid.device)
        matrix_VW += 0.0 if own_VW is None else own_VW
        dist.all_reduce(matrix_VW, group=learner.grid.groups.dp)
        scores.matrices[group] = matrix_VW


def _score(
    learner: LearnerModel,
    scores: _Scores,
    temperature: float,
    micro: MicroBatch,
    hidden_P1W: torch.Tensor,
    head_VW: torch.Tensor,
) -> None:
    hidden_PW = _hidden(learner, hidden_P1W)
    gradient_PV = _head_gradient(learner, hidden_PW, head_VW, micro.targets_P, temperature)
    found_P = torch.zeros(len(hidden_PW), device=hidden_PW.device)
    for group, matrix_VW in scores.matrices.items():
        own_P = micro.groups_P == group
        found_P[own_P] = ((gradient_PV[own_P] @ matrix_VW) * hidden_PW[own_P]).sum(1)
    if learner.grid.layout.tp > 1:
        dist.all_reduce(found_P, group=learner.grid.groups.tp)
    scores.tokens.append((micro, found_P))


def _at_tokens(
    learner: LearnerModel, batch: PackedBatch, tokens: list[tuple[MicroBatch, torch.Tensor]]
) -> Floats:
    """Scores at their tokens, (M, T): what stands at the logits of token t is of token t + 1."""
    scores_MT = np.zeros((len(tokens), batch.tokens_NT.shape[1]), np.float32)
    for row, (micro, found_P) in enumerate(tokens):
        kept_P = micro.is_scored_P
        scores_MT[row, micro.source_P[kept_P] + 1] = found_P.cpu().numpy()[kept_P]
    own = slice(learner.grid.place.dp_rank, None, learner.grid.layout.dp)
    return scores_MT * (batch.groups_NT[own] >= 0)


def _selected(
    learner: LearnerModel, batch: PackedBatch, scores: _Scores, options: NegativeTokens
) -> Floats | None:
    grid = learner.grid
    own = slice(grid.place.dp_rank, None, grid.layout.dp)
    means: list[tuple[int, float]] = []
    scores_MT = np.zeros(0, np.float32)
    groups_MT, segments_MT = batch.groups_NT[own], batch.segments_NT[own]
    trains_MT, right_MT = batch.mask_NT[own] > 0, batch.correct_NT[own] > 0
    if grid.is_last_stage:
        scores_MT = _at_tokens(learner, batch, scores.tokens)
        for row, segment in _samples(segments_MT, trains_MT & right_MT):
            inside = (segments_MT[row] == segment) & trains_MT[row]
            means.append((int(groups_MT[row][inside][0]), float(scores_MT[row][inside].mean())))
    every: list[list[tuple[int, float]]] = [[] for _ in range(grid.process.world_size)]
    dist.all_gather_object(every, means, group=grid.control)
    if not grid.is_last_stage:
        return None
    factors_MT = np.ones(groups_MT.shape, np.float32)
    for group in {group for rank in every for group, _ in rank}:
        least = min(mean for rank in every for number, mean in rank if number == group)
        inside = (groups_MT == group) & trains_MT & ~right_MT
        factors_MT[inside & (scores_MT > options.beta * least)] = _factor(batch, group, options)
    return factors_MT


def _samples(segments_MT: np.ndarray, chosen_MT: np.ndarray) -> list[tuple[int, int]]:
    """Bin and segment of every sample with a chosen token."""
    rows = range(len(segments_MT))
    return [
        (row, int(each)) for row in rows for each in np.unique(segments_MT[row][chosen_MT[row]])
    ]


def _factor(batch: PackedBatch, group: int, options: NegativeTokens) -> float:
    if isinstance(options, NthrTokens):
        return options.factor
    inside_NT = batch.groups_NT == group
    num_right = len(_samples(batch.segments_NT, inside_NT & (batch.correct_NT > 0)))
    num_samples = len(_samples(batch.segments_NT, inside_NT))
    return 2.0 * abs(0.5 - num_right / num_samples)
