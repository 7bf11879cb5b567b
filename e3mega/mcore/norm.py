"""RMSNorm for Megatron-Core's module specs, with a backward pass of its own."""

import torch
from megatron.core.transformer.transformer_config import TransformerConfig

# Shape letters: the last dimension is W wide; the rest are rows.


class RMSNorm(torch.nn.Module):
    """Root-mean-square normalisation over the last dimension, computed in fp32.

    Takes Megatron's arguments of a norm, so that it stands in a spec for input, feed-forward,
    final, query and key norms. The weight is whole on every tensor-parallel rank.
    """

    def __init__(self, config: TransformerConfig, hidden_size: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = torch.nn.Parameter(torch.ones(hidden_size, dtype=config.params_dtype))
        # Megatron's gradient finalisation reads this attribute.
        setattr(self.weight, "sequence_parallel", config.sequence_parallel)  # noqa: B010

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise each row of ``x``; same shape and dtype."""
        return _RMSNorm.apply(x, self.weight, self.eps)  # type: ignore  # apply is untyped


class _RMSNorm(torch.autograd.Function):
    """Half the memory traffic of the composite operation that torch runs on the CPU."""

    @staticmethod
    def forward(ctx, x, weight, eps):
        x_32 = x.float()
        scale = torch.linalg.vector_norm(x_32, dim=-1, keepdim=True)
        scale = scale.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        normed = (x_32 * scale).to(x.dtype)
        ctx.save_for_backward(normed, scale, weight)
        return normed * weight

    @staticmethod
    def backward(ctx, grad):
        normed, scale, weight = ctx.saved_tensors
        width = normed.shape[-1]
        grad_weight = (grad * normed).reshape(-1, width).sum(0)
        weighted = (grad * weight).float()
        normed_32 = normed.float()
        along = torch.linalg.vecdot(weighted, normed_32).unsqueeze(-1).div_(width)
        grad_x = weighted.sub_(normed_32 * along).mul_(scale)
        return grad_x.to(grad.dtype), grad_weight, None
