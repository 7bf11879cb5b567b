"""Log-probabilities and entropies of tokens from the last hidden states, chunk by chunk.

The logits of a long sequence never stand whole in memory: a chunk of tokens is multiplied with the
LM head, scored, and forgotten; the backward pass multiplies it again. Where all tokens fit into
one chunk its probabilities are kept instead.
"""

from dataclasses import dataclass

import torch
import torch.distributed as dist
from megatron.core.tensor_parallel.mappings import (
    copy_to_tensor_model_parallel_region,
    gather_from_sequence_parallel_region,
)

from e3mega.families.mapping import padded_vocab_size
from e3mega.mcore.build import LearnerModel

# Shape letters: T tokens of a bin, C tokens of a chunk, V rows of the vocabulary on this rank, W
# width of the model.

LOGITS_PER_CHUNK = 1 << 25
"""Logits of one chunk on one rank; four fp32 arrays of this size stand at once."""


@dataclass(frozen=True, slots=True)
class TokenScores:
    """What the loss needs of the distribution at each token; (T,), fp32."""

    logprobs_T: torch.Tensor
    """Log-probability of the target, nats, with gradient."""
    entropy_T: torch.Tensor
    """Nats, with gradient."""
    collision_T: torch.Tensor
    """Sum of the squared probabilities, without gradient."""


@dataclass(frozen=True, slots=True)
class _Vocabulary:
    """This rank's rows of the vocabulary, and how they are scored."""

    group: dist.ProcessGroup
    first: int
    """Number of this rank's first row in the whole vocabulary."""
    num_rows: int
    """This rank's rows without the padding."""
    temperature: float
    chunk_tokens: int


def score_tokens(
    learner: LearnerModel,
    hidden_T1W: torch.Tensor,
    head_VW: torch.Tensor,
    targets_T: torch.Tensor,
    *,
    temperature: float,
) -> TokenScores:
    """Log-probability of each target, and entropy and collision of each distribution.

    The distribution is the softmax of logits / temperature over the whole vocabulary. All ranks of
    a tensor-parallel group call it, each with its rows of the LM head; each gets the whole answer.
    """
    group, layout = learner.grid.groups.tp, learner.grid.layout
    if layout.sequence_parallel:
        hidden_T1W = gather_from_sequence_parallel_region(hidden_T1W, group=group)
    elif layout.tp > 1:
        hidden_T1W = copy_to_tensor_model_parallel_region(hidden_T1W, group=group)
    return vocab_scores(
        hidden_T1W[:, 0],
        head_VW,
        targets_T,
        vocab_size=learner.model.vocab_size,
        temperature=temperature,
        group=group,
    )


def vocab_scores(
    hidden_TW: torch.Tensor,
    head_VW: torch.Tensor,
    targets_T: torch.Tensor,
    *,
    vocab_size: int,
    temperature: float,
    group: dist.ProcessGroup,
    logits_per_chunk: int = LOGITS_PER_CHUNK,
) -> TokenScores:
    """The same from whole hidden states; rows of the head behind ``vocab_size`` are padding."""
    each = padded_vocab_size(vocab_size, group.size()) // group.size()
    assert len(head_VW) == each, f"{len(head_VW)} rows of the head, {each} belong to this rank"
    first = each * group.rank()
    vocabulary = _Vocabulary(
        group=group,
        first=first,
        num_rows=min(max(vocab_size - first, 0), each),
        temperature=temperature,
        chunk_tokens=max(1, logits_per_chunk // each),
    )
    # apply is untyped.
    return TokenScores(*_VocabScores.apply(hidden_TW, head_VW, targets_T, vocabulary))  # type: ignore


class _VocabScores(torch.autograd.Function):
    """Keeps three numbers a token for the backward pass, and of a single chunk the
    probabilities."""

    @staticmethod
    def forward(ctx, hidden_TW, head_VW, targets_T, vocabulary):
        spans = hidden_TW.split(vocabulary.chunk_tokens)
        chunks = [
            _chunk_scores(hidden_CW, head_VW, targets_C, vocabulary)
            for hidden_CW, targets_C in zip(
                spans, targets_T.split(vocabulary.chunk_tokens), strict=True
            )
        ]
        scores_4T = torch.cat([scores_4C for scores_4C, _ in chunks], dim=1)
        logprobs_T, entropy_T, collision_T, log_total_T = scores_4T
        probs_TV = chunks[0][1] if len(chunks) == 1 else None
        ctx.save_for_backward(hidden_TW, head_VW, targets_T, entropy_T, log_total_T, probs_TV)
        ctx.vocabulary = vocabulary
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(collision_T)
        return logprobs_T, entropy_T, collision_T

    @staticmethod
    def backward(ctx, grad_logprob_T, grad_entropy_T, _grad_collision_T):
        hidden_TW, head_VW, targets_T, entropy_T, log_total_T, probs_TV = ctx.saved_tensors
        vocabulary = ctx.vocabulary
        rows_VW = head_VW[: vocabulary.num_rows]
        grad_hidden_TW = torch.empty_like(hidden_TW)
        grad_head_VW = torch.zeros(head_VW.shape, dtype=torch.float32, device=head_VW.device)
        for start in range(0, len(hidden_TW), vocabulary.chunk_tokens):
            span = slice(start, start + vocabulary.chunk_tokens)
            probs_CV = probs_TV
            if probs_CV is None:
                logits_CV = _logits(hidden_TW[span], head_VW, vocabulary)
                probs_CV = logits_CV.sub_(log_total_T[span].unsqueeze(1)).exp_()
            grad_CV = _grad_logits(
                probs_CV,
                targets_T[span],
                entropy_T[span],
                None if grad_logprob_T is None else grad_logprob_T[span],
                None if grad_entropy_T is None else grad_entropy_T[span],
                vocabulary,
            ).to(hidden_TW.dtype)
            torch.mm(grad_CV, rows_VW, out=grad_hidden_TW[span])
            grad_head_VW[: vocabulary.num_rows] += grad_CV.T @ hidden_TW[span]
        return grad_hidden_TW, grad_head_VW.to(head_VW.dtype), None, None


def _logits(
    hidden_CW: torch.Tensor, head_VW: torch.Tensor, vocabulary: _Vocabulary
) -> torch.Tensor:
    """Logits over temperature, fp32, of the rows that are no padding; new memory."""
    return (hidden_CW @ head_VW[: vocabulary.num_rows].T).float().div_(vocabulary.temperature)


def _own_targets(
    targets_C: torch.Tensor, vocabulary: _Vocabulary
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of the targets on this rank, clamped, (C, 1), and whether they are there, (C,)."""
    local_C = targets_C - vocabulary.first
    is_here_C = (local_C >= 0) & (local_C < vocabulary.num_rows)
    return local_C.clamp(0, max(vocabulary.num_rows - 1, 0)).unsqueeze(1), is_here_C


def _chunk_scores(
    hidden_CW: torch.Tensor,
    head_VW: torch.Tensor,
    targets_C: torch.Tensor,
    vocabulary: _Vocabulary,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probability, entropy, collision and logarithm of the sum of weights; probabilities."""
    group, is_divided = vocabulary.group, vocabulary.group.size() > 1
    scaled_CV = _logits(hidden_CW, head_VW, vocabulary)
    has_rows = vocabulary.num_rows > 0
    max_C = scaled_CV.amax(dim=1) if has_rows else scaled_CV.new_full((len(hidden_CW),), -torch.inf)
    if is_divided:
        dist.all_reduce(max_C, dist.ReduceOp.MAX, group)
    scaled_CV.sub_(max_C.unsqueeze(1))
    local_C1, is_here_C = _own_targets(targets_C, vocabulary)
    target_C = torch.zeros_like(max_C)
    if has_rows:
        target_C = scaled_CV.gather(1, local_C1).squeeze(1).mul_(is_here_C)
    weights_CV = scaled_CV.exp()
    moment_C = torch.linalg.vecdot(weights_CV, scaled_CV)
    square_C = torch.linalg.vecdot(weights_CV, weights_CV)
    sums_4C = torch.stack([target_C, weights_CV.sum(1), moment_C, square_C])
    if is_divided:
        dist.all_reduce(sums_4C, dist.ReduceOp.SUM, group)
    target_C, total_C, moment_C, square_C = sums_4C
    log_total_C = total_C.log()
    entropy_C = log_total_C - moment_C / total_C
    collision_C = square_C / total_C.square()
    probs_CV = weights_CV.div_(total_C.unsqueeze(1))
    scores = [target_C - log_total_C, entropy_C, collision_C, log_total_C + max_C]
    return torch.stack(scores), probs_CV


def _grad_logits(
    probs_CV: torch.Tensor,
    targets_C: torch.Tensor,
    entropy_C: torch.Tensor,
    grad_logprob_C: torch.Tensor | None,
    grad_entropy_C: torch.Tensor | None,
    vocabulary: _Vocabulary,
) -> torch.Tensor:
    """d log p_t = 1_t - p; d entropy = -p (log p + entropy); both over the temperature."""
    if grad_logprob_C is None:
        grad_logprob_C = torch.zeros_like(entropy_C)
    grad_CV = probs_CV * -grad_logprob_C.unsqueeze(1)
    local_C1, is_here_C = _own_targets(targets_C, vocabulary)
    if vocabulary.num_rows > 0:
        grad_CV.scatter_add_(1, local_C1, (grad_logprob_C * is_here_C).unsqueeze(1))
    if grad_entropy_C is not None:
        log_probs_CV = probs_CV.clamp_min(torch.finfo(probs_CV.dtype).tiny).log_()
        surprise_CV = log_probs_CV.add_(entropy_C.unsqueeze(1)).mul_(probs_CV)
        grad_CV.addcmul_(surprise_CV, grad_entropy_C.unsqueeze(1), value=-1)
    return grad_CV.div_(vocabulary.temperature)
