"""One optimizer step, and one scoring pass, over the bins of a packed batch."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.distributed as dist
from megatron.core.pipeline_parallel import get_forward_backward_func
from numpy.typing import NDArray

from e3mega.learner.finite import check_gradient, check_loss
from e3mega.learner.logprobs import TokenScores, token_logprobs
from e3mega.learner.policy_loss import LossInputs, LossTerms, policy_loss
from e3mega.learner.schedule import learning_rate
from e3mega.learner.step_metrics import loss_metrics
from e3mega.mcore import moments
from e3mega.mcore.attention import PackedSequences, packed_sequences
from e3mega.mcore.build import LearnerModel
from e3mega.objective.options import LossOptions
from e3mega.plan.planfile import StagePlan
from e3mega.plan.topology import num_bins_multiple, rank_grid
from e3mega.rollout.batch import PackedBatch
from e3mega.rollout.packing import PAD_TOKEN_ID
from e3mega.spec.schema.layout import LearnerLayout
from e3mega.spec.schema.optimizer import Moments, OptimizerOptions

# Shape letters: N bins of a batch, M bins of this data-parallel rank, T tokens of a bin, V rows of
# the vocabulary on this rank.

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class RoundScores:
    """What the loss takes from before the round's first step, for this rank's bins of a batch.

    Example: ``RoundScores(old_logprobs_MT=own_logprobs(learner, batch, temperature=1.0))``.
    """

    old_logprobs_MT: Floats | None = None
    """The ratio's denominator; None stands for the current ones."""
    reference_logprobs_MT: Floats | None = None
    """Of the KL term's reference; None without the term."""
    advantage_factors_MT: Floats | None = None
    """Of the token-selective negatives; None without them."""


@dataclass(frozen=True, slots=True)
class _MicroBatch:
    """One bin as the model takes it; loss inputs stand where their token is predicted."""

    tokens_1T: torch.Tensor
    positions_1T: torch.Tensor
    targets_T: torch.Tensor
    packed: PackedSequences
    loss: LossInputs


def train_step(
    learner: LearnerModel,
    batch: PackedBatch,
    stage: StagePlan,
    *,
    stage_step: int,
    known: RoundScores = RoundScores(),
) -> dict[str, float]:
    """Take one optimizer step; returns the metrics that ``records.Reply`` names.

    All ranks call it with the whole batch. Raises JobError on every rank when the loss or the
    gradient is not finite.
    """
    start = time.perf_counter()
    rate = learning_rate(stage.optimizer, stage_step=stage_step, max_steps=stage.max_steps)
    _set_optimizer(learner, stage.optimizer, rate)
    if stage_step == 0 and stage.optimizer.moments is Moments.RESET:
        moments.reset(learner.optimizer)
    for chunk in learner.chunks:
        chunk.zero_grad_buffer()
    learner.optimizer.zero_grad()
    terms: list[LossTerms] = []
    loss_of = partial(_loss, learner, stage.loss, stage.generation.temperature, terms)
    _run(learner, batch, known, loss_of, forward_only=False)
    metrics = loss_metrics(terms, learner.grid)
    check_loss(metrics["loss"], batch)
    # Megatron's base class declares no result.
    _, grad_norm, _ = learner.optimizer.step()  # pyright: ignore[reportGeneralTypeIssues]
    check_gradient(learner, float(grad_norm), batch)
    return {
        **metrics,
        "grad_norm": float(grad_norm),
        "learning_rate": rate,
        "seconds": time.perf_counter() - start,
    }


def own_logprobs(learner: LearnerModel, batch: PackedBatch, *, temperature: float) -> Floats | None:
    """Log-probabilities, at the current weights, of the tokens of this rank's bins.

    (M, T): bins dp_rank, dp_rank + dp, ... of the batch; 0 at the first token of a sequence and
    on padding. None on ranks that are not in the last pipeline stage. All ranks call it.
    """
    scored: list[Floats] = []
    loss_of = partial(_scores, learner, temperature, scored)
    with torch.no_grad():
        _run(learner, batch, RoundScores(), loss_of, forward_only=True)
    if not learner.grid.is_last_stage:
        return None
    own = slice(learner.grid.place.dp_rank, None, learner.grid.layout.dp)
    logprobs_MT = np.zeros((len(scored), batch.tokens_NT.shape[1]), np.float32)
    for row, (logprobs_T, used) in enumerate(zip(scored, _used_tokens(batch)[own], strict=True)):
        # What stands at the logits of token t is of token t + 1.
        logprobs_MT[row, 1:used] = logprobs_T[: used - 1]
    return logprobs_MT * (batch.positions_NT[own] > 0)


def score(learner: LearnerModel, batch: PackedBatch, *, temperature: float) -> Floats | None:
    """Log-probabilities of every token of a batch, (N, T), on world rank 0; None elsewhere."""
    grid = learner.grid
    own_MT = own_logprobs(learner, batch, temperature=temperature)
    gathered: list[Floats | None] = [None for _ in range(grid.process.world_size)]
    if grid.process.world_size == 1:
        return own_MT
    dist.gather_object(own_MT, gathered if grid.is_main else None, dst=0, group=grid.control)
    if not grid.is_main:
        return None
    logprobs_NT = np.zeros(batch.tokens_NT.shape, np.float32)
    for place in rank_grid(grid.layout):
        if place.pp_rank == grid.layout.pp - 1 and place.tp_rank == 0:
            part = gathered[place.world_rank]
            assert part is not None, "the last stage has the log-probabilities"
            logprobs_NT[place.dp_rank :: grid.layout.dp] = part
    return logprobs_NT


def _run(
    learner: LearnerModel,
    batch: PackedBatch,
    known: RoundScores,
    loss_of: Callable[..., object],
    *,
    forward_only: bool,
) -> None:
    """Megatron's pipeline schedule over this data-parallel rank's bins."""
    layout = learner.grid.layout
    num_tokens = [_divisible(used, layout) for used in _used_tokens(batch)]
    bins = range(learner.grid.place.dp_rank, len(num_tokens), layout.dp)
    assert len(num_tokens) % num_bins_multiple(layout) == 0, "the ranks share the bins evenly"
    if layout.pp > 1:
        # Stages exchange activations of one agreed length.
        num_tokens = [max(num_tokens)] * len(num_tokens)

    def micro_batches() -> Iterator[_MicroBatch]:
        for row, number in enumerate(bins):
            yield _micro_batch(learner, batch, number, num_tokens[number], known, row)

    def forward_step(
        micro_batches: Iterator[_MicroBatch], chunk: torch.nn.Module
    ) -> tuple[torch.Tensor, Callable[..., object]]:
        micro = next(micro_batches)
        output = chunk(micro.tokens_1T, micro.positions_1T, None, packed_seq_params=micro.packed)
        return output, partial(loss_of, micro)

    # Every chunk of an interleaved stage takes the micro-batches in its own time.
    iterators = [micro_batches() for _ in learner.chunks]
    get_forward_backward_func()(
        forward_step_func=forward_step,
        data_iterator=iterators if len(iterators) > 1 else iterators[0],
        model=list[torch.nn.Module](learner.chunks),
        num_microbatches=len(bins),
        seq_length=max(num_tokens),
        micro_batch_size=1,
        forward_only=forward_only,
        collect_non_loss_data=forward_only,
    )


def _used_tokens(batch: PackedBatch) -> list[int]:
    """Tokens of each bin without its padding, at least one: the padding need not be computed."""
    last_NT = batch.segments_NT == batch.segments_NT[:, -1:]
    is_padding_N = ~np.any(last_NT & ((batch.tokens_NT != PAD_TOKEN_ID) | (batch.mask_NT > 0)), 1)
    used_N = batch.tokens_NT.shape[1] - is_padding_N * last_NT.sum(1)
    return [max(1, int(used)) for used in used_N]


def _divisible(num_tokens: int, layout: LearnerLayout) -> int:
    """Tokens of a bin when tensor-parallel ranks share them evenly."""
    return -(-num_tokens // layout.tp) * layout.tp if layout.sequence_parallel else num_tokens


def _micro_batch(
    learner: LearnerModel,
    batch: PackedBatch,
    number: int,
    num_tokens: int,
    known: RoundScores,
    row: int,
) -> _MicroBatch:
    """Bin ``number`` of the batch, which is bin ``row`` of this data-parallel rank."""
    device = learner.grid.device
    span = slice(0, num_tokens)
    positions_T = torch.from_numpy(batch.positions_NT[number, span].astype(np.int64))
    tokens_T = torch.from_numpy(batch.tokens_NT[number, span].astype(np.int64))
    is_continued_T = _shifted(batch.positions_NT[number, span]) > 0

    def floats(values_T: Floats) -> torch.Tensor:
        return torch.from_numpy(_shifted(values_T[span]) * is_continued_T).to(device)

    def known_floats(values_MT: Floats | None) -> torch.Tensor | None:
        return None if values_MT is None else floats(values_MT[row])

    advantages_T = floats(batch.advantages_NT[number])
    factors_T = known_floats(known.advantage_factors_MT)
    if factors_T is not None:
        advantages_T = advantages_T * factors_T
    sequence_T = torch.from_numpy(_shifted(batch.segments_NT[number, span].astype(np.int64)))

    return _MicroBatch(
        tokens_1T=tokens_T[None].to(device),
        positions_1T=positions_T[None].to(device),
        targets_T=torch.from_numpy(_shifted(tokens_T.numpy())).to(device),
        packed=packed_sequences(
            positions_T,
            rope=learner.rope,
            device=device,
            dtype=learner.dtype,
        ),
        loss=LossInputs(
            mask_T=floats(batch.mask_NT[number]),
            advantages_T=advantages_T,
            rollout_logprobs_T=floats(batch.rollout_logprobs_NT[number]),
            correct_T=floats(batch.correct_NT[number]),
            sequence_T=sequence_T.to(device),
            old_logprobs_T=known_floats(known.old_logprobs_MT),
            reference_logprobs_T=known_floats(known.reference_logprobs_MT),
            normalizer=batch.normalizer,
        ),
    )


def _shifted[Scalar: np.generic](values_T: NDArray[Scalar]) -> NDArray[Scalar]:
    """Entry t + 1 at place t, 0 at the last."""
    shifted_T = np.zeros_like(values_T)
    shifted_T[:-1] = values_T[1:]
    return shifted_T


def _logprobs(
    learner: LearnerModel, temperature: float, micro: _MicroBatch, logits_1TV: torch.Tensor
) -> TokenScores:
    return token_logprobs(
        logits_1TV[0], micro.targets_T, temperature=temperature, group=learner.grid.groups.tp
    )


def _loss(
    learner: LearnerModel,
    options: LossOptions,
    temperature: float,
    terms: list[LossTerms],
    micro: _MicroBatch,
    logits_1TV: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, dict[str, float]]:
    """What Megatron's schedule asks of a loss: the scalar, a token count, what to keep."""
    scores = _logprobs(learner, temperature, micro, logits_1TV)
    term = policy_loss(scores, micro.loss, options, temperature=temperature)
    terms.append(term)
    return term.loss, torch.tensor(0, dtype=torch.int, device=logits_1TV.device), {}


def _scores(
    learner: LearnerModel,
    temperature: float,
    scored: list[Floats],
    micro: _MicroBatch,
    logits_1TV: torch.Tensor,
    non_loss_data: bool = True,
) -> None:
    scores = _logprobs(learner, temperature, micro, logits_1TV)
    scored.append(scores.logprobs_T.cpu().numpy())


def _set_optimizer(learner: LearnerModel, options: OptimizerOptions, rate: float) -> None:
    """Give Megatron's optimizer the stage's values for this step."""
    learner.optimizer.config.clip_grad = options.clip_grad_norm
    for group in learner.optimizer.param_groups:
        group["lr"] = rate
        group["weight_decay"] = options.weight_decay * group["wd_mult"]
        group["betas"] = (options.beta1, options.beta2)
        group["eps"] = options.eps
