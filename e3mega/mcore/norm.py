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
        ctx.save_for_backward(x, scale, weight)
        return (x_32 * scale).to(x.dtype).mul_(weight)

    @staticmethod
    def backward(ctx, grad):
        x, scale, weight = ctx.saved_tensors
        width = x.shape[-1]
        normed = x.float() * scale
        grad_32, weight_32 = grad.float(), weight.float()
        product = (grad_32 * normed).view(-1, width)
        along = (product @ weight_32).view(scale.shape)
        grad_weight = product.sum(0).to(weight.dtype)
        grad_x = (grad_32 * weight_32).addcmul_(normed, along, value=-1.0 / width).mul_(scale)
        return grad_x.to(grad.dtype), grad_weight, None
