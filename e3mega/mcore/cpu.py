"""Lets Megatron-Core run on the CPU: the one stand-in for what it asks of CUDA.

Megatron-Core names the device ``cuda`` in its factories, reads ``torch.cuda`` for the current
device and streams, and its distributed optimizer checks for the string ``torch.cuda.FloatTensor``.
``install`` answers all of that for the CPU by replacing a few functions of this process; a
``TorchFunctionMode`` would do the same at a cost on every tensor operation. Nothing here touches
numbers.
"""

import contextlib
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from megatron.core.tensor_parallel import random as megatron_random

_FACTORIES = ("tensor", "zeros", "ones", "empty", "full", "arange", "rand", "randn")

_is_installed = False


class _Stream:
    """Stands in for a CUDA stream: work on the CPU is already in order."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        """Takes whatever a CUDA stream takes."""

    def record_event(self, event: object = None) -> "_Stream":
        """An event that has happened; a stream stands in for that too."""
        return self

    def wait_stream(self, stream: object) -> None:
        """Nothing to wait for."""

    def wait_event(self, event: object) -> None:
        """Nothing to wait for."""

    def synchronize(self) -> None:
        """Nothing to wait for."""


_STREAM = _Stream()


def install() -> None:
    """Replace what Megatron-Core needs; called once, before any of its objects is built."""
    global _is_installed
    if _is_installed:
        return
    _is_installed = True
    for name in _FACTORIES:
        setattr(torch, name, _on_cpu(getattr(torch, name)))
    _replace_tensor_methods()
    cuda: Any = torch.cuda
    cuda.current_device = lambda: "cpu"
    cuda.synchronize = lambda device=None: None
    cuda.set_device = lambda device: None
    cuda.empty_cache = lambda: None
    cuda.Stream = _Stream
    cuda.current_stream = lambda device=None: _STREAM
    cuda.stream = lambda stream: contextlib.nullcontext()
    cuda.Event = _Stream
    _replace_random_states(cuda)
    # Experts exchange tokens, not equally many.
    dist.all_to_all_single = _with_lists(dist.all_to_all_single)
    dist.all_gather = _of_unequal_sizes(dist.all_gather)
    dist.reduce_scatter = _reduce_unequal


def name_generators() -> None:
    """Give Megatron the generators that it asks for by name, on any device; nothing is drawn."""
    megatron_random.model_parallel_cuda_manual_seed(1, force_reset_rng=True)


def _on_cpu(factory: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    def make(*args: Any, **kwargs: Any) -> torch.Tensor:
        device = kwargs.get("device")
        if isinstance(device, str) and device.startswith("cuda"):
            kwargs["device"] = "cpu"
        return factory(*args, **kwargs)

    return make


def _replace_tensor_methods() -> None:
    tensor: Any = torch.Tensor
    type_of = tensor.type

    def type_as_if_on_cuda(self: torch.Tensor, *args: Any, **kwargs: Any) -> object:
        answer = type_of(self, *args, **kwargs)
        return answer.replace("torch.", "torch.cuda.") if isinstance(answer, str) else answer

    tensor.type = type_as_if_on_cuda
    tensor.cuda = lambda self, *args, **kwargs: self


def _replace_random_states(cuda: Any) -> None:
    """Megatron keeps the states of CUDA's generators; nothing here draws from any."""
    state = torch.zeros(0, dtype=torch.uint8)
    cuda.get_rng_state = lambda device=None: state
    cuda.manual_seed = lambda seed: None
    random: Any = megatron_random
    random._get_cuda_rng_state = lambda device=None, clone=False, graph_safe=False: state
    random._set_cuda_rng_state = lambda new_state, device=-1, graph_safe=False: None


def _with_lists(all_to_all: Callable[..., Any]) -> Callable[..., Any]:
    """gloo takes lists and contiguous tensors only."""

    def exchange(
        output: torch.Tensor,
        input: torch.Tensor,
        output_split_sizes: Any = None,
        input_split_sizes: Any = None,
        **kwargs: Any,
    ) -> Any:
        splits = [
            sizes if sizes is None else [int(size) for size in sizes]
            for sizes in (output_split_sizes, input_split_sizes)
        ]
        return all_to_all(output, input.contiguous(), *splits, **kwargs)

    return exchange


def _of_unequal_sizes(all_gather: Callable[..., Any]) -> Callable[..., Any]:
    """gloo gathers equal sizes only: shorter tensors are padded on the way."""

    def gather(outputs: list[torch.Tensor], input: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        lengths = [len(output) if output.dim() else 1 for output in outputs]
        if len(set(lengths)) == 1:
            return all_gather(outputs, input, *args, **kwargs)
        padded = [output.new_empty(max(lengths), *output.shape[1:]) for output in outputs]
        own = input.new_zeros(max(lengths), *input.shape[1:])
        own[: len(input)] = input
        all_gather(padded, own, *args, **kwargs)
        for output, whole in zip(outputs, padded, strict=True):
            output.copy_(whole[: len(output)])
        return None

    return gather


def _reduce_unequal(
    output: torch.Tensor, inputs: list[torch.Tensor], group: dist.ProcessGroup | None = None
) -> None:
    """A reduction of which each rank keeps a part, not equally large; gloo has none."""
    whole = torch.cat(inputs)
    dist.all_reduce(whole, group=group)
    start = sum(len(part) for part in inputs[: dist.get_rank(group)])
    output.copy_(whole[start : start + len(output)])
