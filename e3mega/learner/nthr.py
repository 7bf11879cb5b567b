"""Which tokens of wrong samples NTHR punishes less: scores from hidden states and logits.

The score of a token of one sample is the inner product of its gradient at the LM head, the outer
product of e_y - pi and h, with the sum of those of all tokens of the group's right samples (arXiv
2505.18830). One forward pass leaves the hidden states on the host. Then, one group after the
other, that sum is one matrix of vocabulary x width over the tp ranks, summed over the dp ranks.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.distributed as dist
from megatron.core.tensor_parallel.mappings import gather_from_sequence_parallel_region
from numpy.typing import NDArray

from e3mega.learner.logprobs import LOGITS_PER_CHUNK
from e3mega.learner.micro_batch import NOTHING_KNOWN, Floats, MicroBatch
from e3mega.learner.pipeline import run_bins
from e3mega.mcore.build import LearnerModel
from e3mega.objective.sign_rule import NegativeTokens, NthrTokens
from e3mega.rollout.batch import PackedBatch

# Shape letters: M bins of this data-parallel rank, T tokens of a bin, P of those the tokens of a
# micro-batch, K tokens of all bins that train, C of those the tokens of a chunk, V rows of the
# vocabulary on this rank, W width of the model.

Bools = NDArray[np.bool_]


@dataclass(slots=True)
class _Kept:
    """What the forward pass leaves of the tokens that train, bin after bin, on the host."""

    learner: LearnerModel
    hidden: list[torch.Tensor] = field(default_factory=list[torch.Tensor])
    """Inputs of the output layer that predict them, (tokens, W), in the model's precision."""
    targets: list[torch.Tensor] = field(default_factory=list[torch.Tensor])
    places: list[NDArray[np.int64]] = field(default_factory=list[NDArray[np.int64]])
    """Bin and place of each, (tokens, 2)."""
    head_VW: torch.Tensor | None = None

    def keep(self, micro: MicroBatch, hidden_P1W: torch.Tensor, head_VW: torch.Tensor) -> None:
        """Take a bin; ``run_bins`` calls it in the place of the loss."""
        if self.learner.grid.layout.sequence_parallel:
            group = self.learner.grid.groups.tp
            hidden_P1W = gather_from_sequence_parallel_region(hidden_P1W, group=group)
        trains_P = micro.is_scored_P & (micro.loss.mask_T > 0).cpu().numpy()
        own_P = torch.from_numpy(np.flatnonzero(trains_P)).to(hidden_P1W.device)
        # What stands at the logits of token t is of token t + 1.
        place_P = micro.source_P[trains_P] + 1
        self.places.append(np.stack([np.full_like(place_P, len(self.places)), place_P], axis=1))
        self.hidden.append(hidden_P1W[own_P, 0].cpu())
        self.targets.append(micro.targets_P[own_P].cpu())
        self.head_VW = head_VW


def advantage_factors(
    learner: LearnerModel, batch: PackedBatch, options: NegativeTokens, *, temperature: float
) -> Floats | None:
    """Factor on the advantage of each token of this rank's bins, (M, T), 1 but for the selected.

    None on ranks that are not in the last pipeline stage. All ranks call it; a sequence lies on
    one rank whole (no context parallelism).
    """
    kept = _Kept(learner)
    with torch.no_grad():
        run_bins(
            learner,
            batch,
            NOTHING_KNOWN,
            lambda *_, **__: None,
            temperature=temperature,
            forward_only=True,
            head=kept.keep,
        )
        scores_MT = _scores(kept, batch, temperature) if learner.grid.is_last_stage else None
    return _selected(learner, batch, scores_MT, options)


def _scores(kept: _Kept, batch: PackedBatch, temperature: float) -> Floats:
    """Score of every token that can be selected and of every right one, (M, T); else 0."""
    grid, head_VW = kept.learner.grid, kept.head_VW
    assert head_VW is not None, "every rank has a bin"
    head = _Head(kept.learner, head_VW.float(), temperature)
    own = slice(grid.place.dp_rank, None, grid.layout.dp)
    hidden_KW, targets_K = torch.cat(kept.hidden), torch.cat(kept.targets)
    rows_K, places_K = np.concatenate(kept.places).T
    groups_K = batch.groups_NT[own][rows_K, places_K]
    right_K = batch.correct_NT[own][rows_K, places_K] > 0
    scores_MT = np.zeros(batch.tokens_NT[own].shape, np.float32)
    for group in _judged_groups(batch):
        matrix_VW = torch.zeros_like(head.rows_VW)
        for at_C in head.chunks((groups_K == group) & right_K):
            hidden_CW = hidden_KW[at_C].to(grid.device).float()
            matrix_VW += head.gradient(hidden_CW, targets_K[at_C]).T @ hidden_CW
        if grid.layout.dp > 1:
            dist.all_reduce(matrix_VW, group=grid.groups.dp)
        for at_C in head.chunks(groups_K == group):
            hidden_CW = hidden_KW[at_C].to(grid.device).float()
            slopes_CW = head.gradient(hidden_CW, targets_K[at_C]) @ matrix_VW
            found_C = (slopes_CW * hidden_CW).sum(1)
            if grid.layout.tp > 1:
                dist.all_reduce(found_C, group=grid.groups.tp)
            scores_MT[rows_K[at_C], places_K[at_C]] = found_C.cpu().numpy()
    return scores_MT


@dataclass(frozen=True, slots=True)
class _Head:
    """The LM head's rows on this rank, fp32."""

    learner: LearnerModel
    rows_VW: torch.Tensor
    temperature: float

    def chunks(self, chosen_K: Bools) -> Iterator[NDArray[np.int64]]:
        """The chosen tokens, as many at once as the logits' chunks have."""
        size = max(1, LOGITS_PER_CHUNK // len(self.rows_VW))
        at_K = np.flatnonzero(chosen_K)
        for start in range(0, len(at_K), size):
            yield at_K[start : start + size]

    def gradient(self, hidden_CW: torch.Tensor, targets_C: torch.Tensor) -> torch.Tensor:
        """e_y - pi at each token, this rank's rows of the vocabulary; a collective over tp."""
        grid, num_words = self.learner.grid, self.learner.model.vocab_size
        num_rows = len(self.rows_VW)
        first = num_rows * grid.place.tp_rank
        logits_CV = hidden_CW @ self.rows_VW.T / self.temperature
        logits_CV[:, max(0, num_words - first) :] = -torch.inf
        top_C = logits_CV.amax(1)
        if grid.layout.tp > 1:
            dist.all_reduce(top_C, dist.ReduceOp.MAX, grid.groups.tp)
        weights_CV = logits_CV.sub_(top_C[:, None]).exp_()
        total_C = weights_CV.sum(1)
        if grid.layout.tp > 1:
            dist.all_reduce(total_C, group=grid.groups.tp)
        gradient_CV = weights_CV.div_(-total_C[:, None])
        local_C = targets_C.to(gradient_CV.device) - first
        is_here_C = (local_C >= 0) & (local_C < num_rows)
        places_C = torch.arange(len(local_C), device=local_C.device)[is_here_C]
        gradient_CV[places_C, local_C[is_here_C]] += 1.0
        return gradient_CV


def _judged_groups(batch: PackedBatch) -> list[int]:
    """Groups with tokens to select and right ones to judge them by; the same on every rank."""
    trains_NT, right_NT = batch.mask_NT > 0, batch.correct_NT > 0
    right = np.unique(batch.groups_NT[trains_NT & right_NT])
    return np.intersect1d(right, batch.groups_NT[trains_NT & ~right_NT]).tolist()


def _selected(
    learner: LearnerModel, batch: PackedBatch, scores_MT: Floats | None, options: NegativeTokens
) -> Floats | None:
    """The factors; scores are None on ranks that are not in the last pipeline stage."""
    grid = learner.grid
    own = slice(grid.place.dp_rank, None, grid.layout.dp)
    groups_MT, segments_MT = batch.groups_NT[own], batch.segments_NT[own]
    trains_MT, right_MT = batch.mask_NT[own] > 0, batch.correct_NT[own] > 0
    means: list[tuple[int, float]] = []
    if scores_MT is not None:
        for row, segment in _samples(segments_MT, trains_MT & right_MT):
            inside = (segments_MT[row] == segment) & trains_MT[row]
            means.append((int(groups_MT[row][inside][0]), float(scores_MT[row][inside].mean())))
    every: list[list[tuple[int, float]]] = [[] for _ in range(grid.process.world_size)]
    dist.all_gather_object(every, means, group=grid.control)
    if scores_MT is None:
        return None
    factors_MT = np.ones(groups_MT.shape, np.float32)
    for group in _judged_groups(batch):
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
