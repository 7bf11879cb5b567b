"""Streams the learner's weights as HF-named tensors, gathered from their shards on world rank 0.

It has the interface of vLLM's ``WeightSource`` without importing vLLM: ``metadata()``,
``held_names()`` and iteration.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import torch
import torch.distributed as dist

from e3mega.families.mapping import Weight, pieces, shard_shape
from e3mega.families.registry import weights
from e3mega.mcore.build import LearnerModel
from e3mega.plan.topology import shard_holders


@dataclass(frozen=True, slots=True)
class ParamMeta:
    """Name, dtype on the wire and full shape of one tensor; vLLM's record has these fields.

    Example: ``ParamMeta("model.norm.weight", torch.float32, (128,))``.
    """

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]


class MegatronWeightSource:
    """The learner's weights, tensor by tensor, in the order of the mapping table.

    Iterating is a collective: every rank of the learner iterates to the end. World rank 0 gets
    each tensor, new memory every time; the others get None in its place.
    """

    def __init__(self, learner: LearnerModel) -> None:
        self._learner = learner
        self._table = weights(learner.model)

    def metadata(self) -> list[ParamMeta]:
        """What iteration will yield, the same on every rank, without communication."""
        return [
            ParamMeta(tensor.name, self._learner.dtype, tensor.shape)
            for weight in self._table
            for tensor in weight.hf
        ]

    def held_names(self) -> Collection[str] | None:
        """The names this rank gets: all on world rank 0 (None stands for all), else none."""
        return None if self._learner.grid.is_main else ()

    def __iter__(self) -> Iterator[tuple[str, torch.Tensor | None]]:
        shards = dict(self._learner.held_weights())
        for weight in self._table:
            shard = shards[weight].detach() if weight in shards else None
            gathered = self._gather(weight, shard)
            for source, tensor in enumerate(weight.hf):
                yield tensor.name, gathered[source] if gathered else None

    def _gather(
        self, weight: Weight, shard: torch.Tensor | None
    ) -> tuple[torch.Tensor, ...] | None:
        """The HF tensors of one weight on world rank 0, None elsewhere."""
        grid = self._learner.grid
        holders = shard_holders(self._learner.model, grid.layout, weight)
        if not grid.is_main:
            if grid.process.world_rank in holders:
                assert shard is not None, "a holder has the shard"
                dist.send(shard.contiguous(), dst=0)
            return None
        tensors = tuple(
            torch.empty(tensor.shape, dtype=self._learner.dtype, device=grid.device)
            for tensor in weight.hf
        )
        for shard_rank, holder in enumerate(holders):
            if holder == 0:
                assert shard is not None, "world rank 0 holds its own shards"
                part = shard
            else:
                shape = shard_shape(weight, len(holders))
                part = torch.empty(shape, dtype=self._learner.dtype, device=grid.device)
                dist.recv(part, src=holder)
            spread(part, tensors, weight, tp_rank=shard_rank, tp=len(holders))
        return tensors


def spread(
    shard: torch.Tensor, tensors: tuple[torch.Tensor, ...], weight: Weight, *, tp_rank: int, tp: int
) -> None:
    """Copy one rank's shard to where its pieces stand in the HF tensors."""
    offset = 0
    for piece in pieces(weight, tp_rank=tp_rank, tp=tp):
        length = piece.stop - piece.start
        target = tensors[piece.source].narrow(piece.dim, piece.start, length)
        target.copy_(shard.narrow(piece.dim, offset, length))
        offset += length
