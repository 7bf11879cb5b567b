"""One optimizer step, and one scoring pass, over the bins of a packed batch."""

import time
from functools import partial

import numpy as np
import torch
import torch.distributed as dist

from e3mega.learner.finite import check_gradient, check_loss
from e3mega.learner.micro_batch import NOTHING_KNOWN, Floats, MicroBatch, RoundScores
from e3mega.learner.pipeline import run_bins, token_scores
from e3mega.learner.policy_loss import LossTerms, policy_loss
from e3mega.learner.schedule import learning_rate
from e3mega.learner.step_metrics import loss_metrics
from e3mega.mcore import moments
from e3mega.mcore.build import LearnerModel
from e3mega.objective.options import LossOptions
from e3mega.plan.planfile import StagePlan
from e3mega.plan.topology import rank_grid
from e3mega.rollout.batch import PackedBatch
from e3mega.spec.schema.optimizer import Moments, OptimizerOptions

# Shape letters: N bins of a batch, M bins of this data-parallel rank, T tokens of a bin, P of those
# the tokens of this context-parallel rank.


def train_step(
    learner: LearnerModel,
    batch: PackedBatch,
    stage: StagePlan,
    *,
    stage_step: int,
    known: RoundScores = NOTHING_KNOWN,
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
    temperature = stage.generation.temperature
    loss_of = partial(micro_batch_loss, stage.loss, temperature, terms)
    run_bins(learner, batch, known, loss_of, temperature=temperature, forward_only=False)
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
    grid, scored = learner.grid, list[tuple[MicroBatch, Floats]]()
    with torch.no_grad():
        run_bins(
            learner,
            batch,
            NOTHING_KNOWN,
            partial(_scores, scored),
            temperature=temperature,
            forward_only=True,
        )
    if not grid.is_last_stage:
        return None
    own = slice(grid.place.dp_rank, None, grid.layout.dp)
    # What stands at the logits of token t is of token t + 1.
    logprobs_MT = np.zeros((len(scored), batch.tokens_NT.shape[1]), np.float32)
    for row, (micro, logprobs_P) in enumerate(scored):
        logprobs_MT[row, micro.source_P[micro.is_scored_P] + 1] = logprobs_P[micro.is_scored_P]
    logprobs_MT *= batch.positions_NT[own] > 0
    if grid.layout.cp > 1:
        total_MT = torch.from_numpy(logprobs_MT).to(grid.device)
        dist.all_reduce(total_MT, group=grid.groups.cp)
        logprobs_MT = total_MT.cpu().numpy()
    return logprobs_MT


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
        if place.pp_rank == grid.layout.pp - 1 and place.tp_rank == place.cp_rank == 0:
            part = gathered[place.world_rank]
            assert part is not None, "the last stage has the log-probabilities"
            logprobs_NT[place.dp_rank :: grid.layout.dp] = part
    return logprobs_NT


def micro_batch_loss(
    options: LossOptions,
    temperature: float,
    terms: list[LossTerms],
    micro: MicroBatch,
    scores_3P: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, dict[str, float]]:
    """What Megatron's schedule asks of a loss: the scalar, a token count, what to keep."""
    term = policy_loss(token_scores(scores_3P), micro.loss, options, temperature=temperature)
    terms.append(term)
    return term.loss, torch.tensor(0, dtype=torch.int, device=scores_3P.device), {}


def _scores(
    scored: list[tuple[MicroBatch, Floats]],
    micro: MicroBatch,
    scores_3P: torch.Tensor,
    non_loss_data: bool = True,
) -> None:
    scored.append((micro, scores_3P[0].cpu().numpy()))


def _set_optimizer(learner: LearnerModel, options: OptimizerOptions, rate: float) -> None:
    """Give Megatron's optimizer the stage's values for this step."""
    learner.optimizer.config.clip_grad = options.clip_grad_norm
    for group in learner.optimizer.param_groups:
        group["lr"] = rate
        group["weight_decay"] = options.weight_decay * group["wd_mult"]
        group["betas"] = (options.beta1, options.beta2)
        group["eps"] = options.eps
