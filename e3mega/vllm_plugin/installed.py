"""What of the sent weights stands in the model of a vLLM worker, tensor by tensor."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from vllm.model_executor.layers.linear import QKVParallelLinear, RowParallelLinear
from vllm.model_executor.layers.utils import dispatch_cpu_unquantized_gemm
from vllm.model_executor.layers.vocab_parallel_embedding import (
    ParallelLMHead,
    VocabParallelEmbedding,
)

from e3mega.weights.checksum import tensor_checksum
from e3mega.weights.engines.messages import TensorReport

NUM_PROBE_ROWS = 8
ABSENT = "absent"
"""Checksum of a tensor that the model has and the file has not."""


@dataclass(frozen=True, slots=True)
class Slot:
    """One parameter of the model and the HF tensors it is made of, in order.

    Example: ``Slot(qkv_proj, "weight", ("…q_proj.weight", "…k_proj.weight", "…v_proj.weight"))``.
    """

    module: torch.nn.Module
    parameter: str
    names: tuple[str, ...]


def repack_tied_heads(model: torch.nn.Module) -> None:
    """Pack every LM head again on a CPU.

    The layerwise reload of vLLM 0.32 leaves the packed copy of a head whose weight belongs to the
    embedding as it was ("ParallelLMHead: Failed to load weights" is only a warning there), so
    log-probabilities would come from the old head. Remove when the reload does it.
    """
    for module in model.modules():
        if isinstance(module, ParallelLMHead) and hasattr(module, "cpu_linear"):
            dispatch_cpu_unquantized_gemm(module, remove_weight=False)


def installed_report(
    model: torch.nn.Module, sent: dict[str, torch.Tensor]
) -> dict[str, TensorReport]:
    """A report for every tensor that the model is made of.

    A plain parameter is read back and its checksum taken. A copy that was packed for a CPU kernel
    cannot be read back: its product with fixed vectors must be bit-equal to that of a fresh
    packing of what was sent.
    """
    reports: dict[str, TensorReport] = {}
    for slot in _slots(model):
        parts = [sent.get(name) for name in slot.names]
        present = [part for part in parts if part is not None]
        if len(present) < len(parts):
            for name, part in zip(slot.names, parts, strict=True):
                reports[name] = TensorReport(ABSENT if part is None else tensor_checksum(part))
            continue
        shards = [_shard(slot.module, index, part) for index, part in enumerate(present)]
        is_fresh = _is_packed_fresh(model, slot, torch.cat(shards))
        installed = _installed_parts(slot, shards)
        for name, part, shard, found in zip(slot.names, present, shards, installed, strict=True):
            # A shard of a tensor-parallel worker has no checksum of its own to be compared with:
            # it stands for the whole tensor when it equals its part of it.
            if found is not None and found.shape == shard.shape and torch.equal(found, shard):
                found = None if found.shape != part.shape else found
            reports[name] = TensorReport(
                tensor_checksum(part if found is None else found), is_fresh
            )
    return reports


def _slots(model: torch.nn.Module) -> Iterator[Slot]:
    """Every parameter of the model once; a tied head belongs to the embedding's slot."""
    fused: dict[str, list[str]] = getattr(model, "packed_modules_mapping", None) or {}
    seen: set[int] = set()
    for path, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.numel() and id(parameter) in seen:
                continue
            seen.add(id(parameter))
            head, _, last = path.rpartition(".")
            parts = fused.get(last, [last])
            yield Slot(module, name, tuple(f"{head}.{part}.{name}".lstrip(".") for part in parts))


def _shard(module: torch.nn.Module, index: int, whole: torch.Tensor) -> torch.Tensor:
    """This worker's part of a whole HF tensor, by the rule of vLLM's layer."""
    rank, size = getattr(module, "tp_rank", 0), getattr(module, "tp_size", 1)
    if size == 1 or whole.ndim == 1:
        return whole
    if isinstance(module, RowParallelLinear):
        return whole.chunk(size, dim=1)[rank].contiguous()
    if isinstance(module, QKVParallelLinear) and index > 0:
        replicas = module.num_kv_head_replicas
        return whole.chunk(size // replicas, dim=0)[rank // replicas]
    if isinstance(module, VocabParallelEmbedding):
        indices = module.shard_indices
        return whole[indices.org_vocab_start_index : indices.org_vocab_end_index]
    return whole.chunk(size, dim=0)[rank]


def _installed_parts(slot: Slot, shards: list[torch.Tensor]) -> list[torch.Tensor | None]:
    """The parts of the installed parameter; None each where only a packed copy is left."""
    parameter = getattr(slot.module, slot.parameter).detach().cpu()
    if parameter.numel() == 0:
        return [None] * len(shards)
    # An embedding may have padding rows behind the vocabulary.
    rows = [shard.shape[0] for shard in shards]
    return list(parameter[: sum(rows)].split(rows))


def _is_packed_fresh(model: torch.nn.Module, slot: Slot, expected: torch.Tensor) -> bool:
    """Whether every packed copy of the slot gives the product of a fresh packing."""
    if slot.parameter != "weight" or expected.ndim != 2:
        return True
    parameter = getattr(slot.module, slot.parameter)
    holders: list[Any] = [slot.module]
    if parameter.numel():
        holders = [m for m in model.modules() if getattr(m, "weight", None) is parameter]
    holders = [module for module in holders if hasattr(module, "cpu_linear")]
    if not holders:
        return True
    padded = parameter.shape[0] if parameter.numel() else expected.shape[0]
    fresh: Any = torch.nn.Module()
    weight = torch.zeros(padded, expected.shape[1], dtype=expected.dtype)
    weight[: expected.shape[0]] = expected
    fresh.weight = torch.nn.Parameter(weight, requires_grad=False)
    dispatch_cpu_unquantized_gemm(fresh, remove_weight=False)
    generator = torch.Generator().manual_seed(0)
    probe = torch.randn(NUM_PROBE_ROWS, expected.shape[1], generator=generator).to(expected.dtype)
    product = fresh.cpu_linear(probe, fresh.weight, None)
    return all(
        torch.equal(module.cpu_linear(probe, module.weight, None), product) for module in holders
    )
