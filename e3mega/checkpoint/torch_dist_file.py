"""Writes weights as a Megatron checkpoint of any grid, chunk by chunk and without the grid."""

import io
import json
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

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

from e3mega.checkpoint.digested_file import DigestedFile
from e3mega.checkpoint.manifest import FileFacts
from e3mega.checkpoint.tensor_archive import write_archive

_COMMON = "common_state/shard_0_1"
"""Key of what is no tensor; empty here."""


class TorchDistFile:
    """The files of one Megatron checkpoint; a chunk goes into the file of the rank that holds it.

    ``add`` the shards of all weights in any order, then ``close``. Only the weights: a run that
    starts from them begins with empty moments.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._folder = folder
        self._files: dict[str, DigestedFile] = {}
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

        ``blocks`` hold the chunk's rows in order. They are digested while the next chunk is read,
        so their memory must not be used again.
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
        self._places[index] = self._write(
            world_rank, lambda file: write_archive(file, blocks, shape)
        )

    def close(self) -> dict[str, FileFacts]:
        """Write what is no tensor, the metadata, and Megatron's mark of a whole checkpoint.

        Returns the facts of the files with tensors.
        """
        common = io.BytesIO()
        torch.save([{}], common)
        self._entries[_COMMON] = BytesStorageMetadata()
        self._places[MetadataIndex(_COMMON)] = self._write(
            0, lambda file: file.write(common.getvalue())
        )
        facts = {name: file.close() for name, file in self._files.items()}
        metadata = Metadata(self._entries, None, self._places, StorageMeta())
        (self._folder / ".metadata").write_bytes(pickle.dumps(metadata))
        mark = {"sharded_backend": "torch_dist", "sharded_backend_version": 1}
        (self._folder / "metadata.json").write_text(json.dumps(mark))
        return facts

    def _write(self, world_rank: int, write: Callable[[Any], object]) -> _StorageInfo:
        name = f"__{world_rank}_0.distcp"
        if name not in self._files:
            self._files[name] = DigestedFile(self._folder / name)
        file = self._files[name]
        start = file.tell()
        write(file)
        return _StorageInfo(name, start, file.tell() - start)
