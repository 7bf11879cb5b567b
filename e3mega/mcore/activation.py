"""SwiGLU for Megatron-Core's module specs, with a backward pass of its own."""

import torch
from megatron.core.transformer.transformer_config import TransformerConfig
from torch.nn.functional import silu

# Shape letters: the last dimension of the input holds the gate, then as wide the up projection.


class SwiGLU(torch.nn.Module):
    """silu(gate) * up, where Megatron's spec takes an activation of both halves."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        assert config.gated_linear_unit, "SwiGLU takes a gate and an up projection"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Half as wide as ``x``."""
        return _SwiGLU.apply(x)  # type: ignore  # apply is untyped


class _SwiGLU(torch.autograd.Function):
    """Writes both halves of the gradient in place; the composite one concatenates copies."""

    @staticmethod
    def forward(ctx, x):
        gate, up = x.chunk(2, dim=-1)
        active = silu(gate)
        ctx.save_for_backward(x, active)
        return active * up

    @staticmethod
    def backward(ctx, grad):
        x, active = ctx.saved_tensors
        gate, up = x.chunk(2, dim=-1)
        grad_x = torch.empty_like(x)
        grad_gate, grad_up = grad_x.chunk(2, dim=-1)
        torch.mul(grad, active, out=grad_up)
        torch.ops.aten.silu_backward.grad_input(grad * up, gate, grad_input=grad_gate)
        return grad_x
