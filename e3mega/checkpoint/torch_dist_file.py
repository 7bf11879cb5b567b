"""Writes weights as a Megatron checkpoint of any grid, chunk by chunk and without the grid."""

import io
import json
import pickle
from collections.abc import Buffer, Sequence
from pathlib import Path

import torch
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.metadata import (
    BytesStorageMetadata,
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    StorageMeta,
    TensorProperties,
    TensorStorageMetadata,
)

from e3mega.checkpoint.digested_files import MAX_UNDIGESTED, DigestedFiles
from e3mega.checkpoint.manifest import FileFacts
from e3mega.checkpoint.reused_memory import ReusedMemory
from e3mega.checkpoint.tensor_archive import archive_of

_COMMON = "common_state/shard_0_1"
"""Key of what is no tensor; empty here."""

_MAX_BLOCKS = 2
"""Rows and their padding are written from where they lie."""


class TorchDistFile:
    """The files of one Megatron checkpoint; a chunk goes into the file of the rank that holds it.

    ``add`` the shards of all weights in any order, then ``close``. Only the weights: a run that
    starts from them begins with empty moments.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._folder = folder
        self._files = DigestedFiles(folder)
        self._joined = ReusedMemory(MAX_UNDIGESTED)
        self._entries: dict[str, TensorStorageMetadata | BytesStorageMetadata] = {}
        self._places: dict[MetadataIndex, _StorageInfo] = {}

    def add(
        self,
        key: str,
        blocks: Sequence[torch.Tensor],
        *,
        shape: tuple[int, ...],
        offsets: tuple[int, ...],
        size: tuple[int, ...],
        world_rank: int,
    ) -> None:
        """Write one chunk of the tensor ``key``, whose whole size is ``size``.

        ``blocks`` hold the chunk's rows in order. They are digested while the next chunks are
        read, so their memory must not be written to.
        """
        entry = self._entries.get(key)
        if entry is None:
            properties = TensorProperties(dtype=blocks[0].dtype)
            entry = TensorStorageMetadata(properties, torch.Size(size), [])
            self._entries[key] = entry
        assert isinstance(entry, TensorStorageMetadata), f"{key} is a tensor"
        chunk = ChunkStorageMetadata(torch.Size(offsets), torch.Size(shape))
        entry.chunks.append(chunk)
        index = MetadataIndex(key, offsets, len(entry.chunks) - 1)
        self._places[index] = self._write(world_rank, archive_of(self._few(blocks, shape), shape))

    def close(self) -> dict[str, FileFacts]:
        """Write what is no tensor, the metadata, and Megatron's mark of a whole checkpoint.

        Returns the facts of the files with tensors.
        """
        common = io.BytesIO()
        torch.save([{}], common)
        self._entries[_COMMON] = BytesStorageMetadata()
        self._places[MetadataIndex(_COMMON)] = self._write(0, [common.getvalue()])
        facts = self._files.close()
        metadata = Metadata(self._entries, None, self._places, StorageMeta())
        (self._folder / ".metadata").write_bytes(pickle.dumps(metadata))
        mark = {"sharded_backend": "torch_dist", "sharded_backend_version": 1}
        (self._folder / "metadata.json").write_text(json.dumps(mark))
        return facts

    def _few(
        self, blocks: Sequence[torch.Tensor], shape: tuple[int, ...]
    ) -> Sequence[torch.Tensor]:
        """The blocks, or one copy of them: many small pieces cost more to hand on than to join."""
        if len(blocks) <= _MAX_BLOCKS and all(block.is_contiguous() for block in blocks):
            return blocks
        joined = self._joined.empty(shape, blocks[0].dtype)
        rows = joined.view(-1, *blocks[0].shape[1:])
        torch.cat(list(blocks), out=rows)
        return [joined]

    def _write(self, world_rank: int, parts: Sequence[Buffer]) -> _StorageInfo:
        name = f"__{world_rank}_0.distcp"
        return _StorageInfo(name, *self._files.append(name, parts))
