"""The state of Adam inside Megatron's distributed optimizer: filled, loaded, reset."""

from typing import Any

import torch
from megatron.core.optimizer import ChainedOptimizer, MegatronOptimizer
from megatron.core.optimizer.distrib_optimizer import DistributedOptimizer

_MOMENTS = ("exp_avg", "exp_avg_sq")


def distributed_optimizers(optimizer: MegatronOptimizer) -> list[DistributedOptimizer]:
    """The distributed optimizers that an optimizer is or is a chain of."""
    chained = optimizer.chained_optimizers if isinstance(optimizer, ChainedOptimizer) else []
    return [each for each in chained or [optimizer] if isinstance(each, DistributedOptimizer)]


def fill(optimizer: MegatronOptimizer) -> None:
    """Give every parameter of torch's Adam its state; Megatron asserts on an empty one.

    Transformer Engine's Adam, which Megatron takes where it can, makes its own.
    """
    for inner in _inner(optimizer):
        if not isinstance(inner, torch.optim.Adam):
            continue
        for parameter in [each for group in inner.param_groups for each in group["params"]]:
            state = inner.state[parameter]
            if not state:
                state["step"] = torch.tensor(0.0)
                for moment in _MOMENTS:
                    state[moment] = torch.zeros_like(parameter)


def reset(optimizer: MegatronOptimizer) -> None:
    """Forget both moments and Adam's count of steps, as if no step had been taken."""
    for inner in _inner(optimizer):
        for group in inner.param_groups:
            if "step" in group:
                group["step"] = 0
        for state in inner.state.values():
            for name in ("step", *_MOMENTS):
                if name in state:
                    state[name].zero_()


def pass_over_steps(optimizer: MegatronOptimizer) -> None:
    """Let the load of moments pass over Adam's ``step``, which comes with the parameter groups.

    Without Transformer Engine the state of torch's Adam holds ``step`` as a tensor; Megatron-Core
    0.19 drops it from what it loads and then asks for it. None says that there is nothing to copy.
    """
    each: Any
    for each in distributed_optimizers(optimizer):
        copy = DistributedOptimizer._set_main_param_and_optimizer_states.__get__(each)
        each._set_main_param_and_optimizer_states = lambda parameter, tensors, copy=copy: copy(
            parameter, {"step": None, **tensors}
        )


def give_own_steps(optimizer: MegatronOptimizer) -> None:
    """Give every parameter a ``step`` of its own.

    Megatron-Core 0.19 loads one tensor into all of them; Adam then counts one step per parameter,
    and its bias correction is wrong from the first continued step on.
    """
    for inner in _inner(optimizer):
        for state in inner.state.values():
            if "step" in state:
                state["step"] = state["step"].detach().clone()


def _inner(optimizer: MegatronOptimizer) -> list[torch.optim.Optimizer]:
    return [each.optimizer for each in distributed_optimizers(optimizer)]
