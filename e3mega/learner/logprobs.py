"""Log-probabilities and entropies of tokens from logits divided over tensor-parallel ranks."""

from dataclasses import dataclass

import torch
import torch.distributed as dist

# Shape letters: T tokens, V rows of the vocabulary on this rank.


@dataclass(frozen=True, slots=True)
class TokenScores:
    """What the loss needs of the distribution at each token; (T,), fp32."""

    logprobs_T: torch.Tensor
    """Log-probability of the target, nats, with gradient."""
    entropy_T: torch.Tensor
    """Nats, with gradient."""
    collision_T: torch.Tensor
    """Sum of the squared probabilities, without gradient."""


def token_logprobs(
    logits_TV: torch.Tensor,
    targets_T: torch.Tensor,
    *,
    temperature: float,
    group: dist.ProcessGroup,
) -> TokenScores:
    """Log-probability of each target, and entropy and collision of each distribution.

    The distribution is the softmax of logits / temperature over the whole vocabulary. All ranks
    of the tensor-parallel ``group`` call it, and each gets the whole answer.
    """
    return TokenScores(*_TokenLogprobs.apply(logits_TV, targets_T, temperature, group))  # type: ignore  # untyped


class _TokenLogprobs(torch.autograd.Function):
    """Keeps one (T, V) array for the backward pass: the probabilities of this rank's rows."""

    @staticmethod
    def forward(ctx, logits_TV, targets_T, temperature, group):
        scaled_TV = logits_TV.float() / temperature
        num_ranks, first = group.size(), group.rank() * logits_TV.shape[1]
        max_T = scaled_TV.amax(dim=1)
        if num_ranks > 1:
            dist.all_reduce(max_T, dist.ReduceOp.MAX, group)
        scaled_TV.sub_(max_T.unsqueeze(1))
        local_T = targets_T - first
        is_here_T = (local_T >= 0) & (local_T < scaled_TV.shape[1])
        local_T = local_T.clamp_(0, scaled_TV.shape[1] - 1).unsqueeze(1)
        target_T = scaled_TV.gather(1, local_T).squeeze(1).mul_(is_here_T)
        weights_TV = scaled_TV.exp()
        moment_T = torch.linalg.vecdot(weights_TV, scaled_TV)
        square_T = torch.linalg.vecdot(weights_TV, weights_TV)
        sums_4T = torch.stack([target_T, weights_TV.sum(1), moment_T, square_T])
        if num_ranks > 1:
            dist.all_reduce(sums_4T, dist.ReduceOp.SUM, group)
        target_T, total_T, moment_T, square_T = sums_4T
        log_total_T = total_T.log()
        probs_TV = weights_TV.div_(total_T.unsqueeze(1))
        entropy_T = log_total_T - moment_T / total_T
        ctx.save_for_backward(probs_TV, local_T, is_here_T, entropy_T)
        ctx.temperature, ctx.dtype = temperature, logits_TV.dtype
        ctx.set_materialize_grads(False)
        collision_T = square_T / total_T**2
        ctx.mark_non_differentiable(collision_T)
        return target_T - log_total_T, entropy_T, collision_T

    @staticmethod
    def backward(ctx, grad_logprob_T, grad_entropy_T, _grad_collision_T):
        probs_TV, local_T, is_here_T, entropy_T = ctx.saved_tensors
        grad_TV = probs_TV * -grad_logprob_T.unsqueeze(1)
        grad_TV.scatter_add_(1, local_T, (grad_logprob_T * is_here_T).unsqueeze(1))
        if grad_entropy_T is not None:
            log_probs_TV = probs_TV.clamp_min(torch.finfo(probs_TV.dtype).tiny).log_()
            surprise_TV = log_probs_TV.add_(entropy_T.unsqueeze(1)).mul_(probs_TV)
            grad_TV.addcmul_(surprise_TV, grad_entropy_T.unsqueeze(1), value=-1)
        return grad_TV.div_(ctx.temperature).to(ctx.dtype), None, None, None
