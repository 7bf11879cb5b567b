"""Whole tensors of a Megatron checkpoint, read from the chunks that any grid wrote."""

import math
import re
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch.distributed.checkpoint.metadata import MetadataIndex, TensorStorageMetadata

from e3mega.checkpoint.mapped_file import MappedFile
from e3mega.checkpoint.reused_memory import ReusedMemory
from e3mega.checkpoint.safe_reading import read_metadata, read_object
from e3mega.errors import CheckpointError
from e3mega.families.geometry import ModelOptions
from e3mega.families.mapping import Weight

_EXPERT = re.compile(r"local_experts\.([0-9]+)\.")
_LAYER = re.compile(r"layers\.([0-9]+)\.")
_FUSED = {
    ".input_layernorm.": ".self_attention.linear_qkv.layer_norm_",
    ".pre_mlp_layernorm.": ".mlp.linear_fc1.layer_norm_",
}
"""Norms go by the names of Transformer Engine's fused layers, so that both kinds of layers read
the same files; the one before experts is never fused."""


class GlobalTensors:
    """The tensors of one checkpoint by Megatron's keys; one chunk stands in memory at a time.

    Keys are names of the whole model. Experts of a layer share a key, with the expert's number as
    a first axis; in checkpoints of other programs the layers may do so too.
    """

    def __init__(self, folder: Path, model: ModelOptions) -> None:
        self._folder = folder
        self._model = model
        self._metadata = read_metadata(folder)
        self._files: dict[str, MappedFile] = {}
        self._joined = ReusedMemory(1)

    def keys(self) -> list[str]:
        """The keys of all tensors, moments included, in the order of the file."""
        found = self._metadata.state_dict_metadata.items()
        return [key for key, entry in found if isinstance(entry, TensorStorageMetadata)]

    def entry(self, key: str) -> TensorStorageMetadata:
        """Shape, dtype and chunks of a tensor; raises CheckpointError when there is none."""
        entry = self._metadata.state_dict_metadata.get(key)
        if not isinstance(entry, TensorStorageMetadata):
            raise CheckpointError(f"{self._folder} holds no tensor {key}")
        return entry

    def read(self, weight: Weight) -> torch.Tensor:
        """A weight as one rank alone would hold it, padding of the vocabulary included.

        Where one chunk holds it, it lies in the file and is not copied; else its memory is used
        again by the next call.
        """
        key, index = self._place(weight)
        entry = self.entry(key)
        wanted, dtype = entry.size[len(index) :], entry.properties.dtype
        whole: torch.Tensor | None = None
        num_read = 0
        for chunk in entry.chunks:
            first = tuple(chunk.offsets[: len(index)])
            sizes = tuple(chunk.sizes[: len(index)])
            within = [at - start for at, start in zip(index, first, strict=True)]
            if not all(0 <= at < size for at, size in zip(within, sizes, strict=True)):
                continue
            value = self._chunk(key, chunk.offsets, tuple(chunk.sizes), dtype)[tuple(within)]
            if value.shape == wanted:
                return value
            whole = self._joined.empty(tuple(wanted), dtype) if whole is None else whole
            where = zip(chunk.offsets[len(index) :], value.shape, strict=True)
            whole[tuple(slice(start, start + size) for start, size in where)] = value
            num_read += value.numel()
        if whole is None or num_read != whole.numel():
            raise CheckpointError(f"{self._folder}: {key}{list(index)}: chunks are missing")
        return whole

    def forget(self) -> None:
        """Give back the memory of the chunks that were read; they can be read again."""
        for file in self._files.values():
            file.forget()

    def _place(self, weight: Weight) -> tuple[str, tuple[int, ...]]:
        """The key that holds a weight, and the weight's place on the axes before its own."""
        known = self._metadata.state_dict_metadata
        for key, index in stored_as(weight, self._model):
            if key in known:
                return key, index
        raise CheckpointError(f"{self._folder} holds no tensor {weight.name}")

    def _chunk(
        self, key: str, offsets: torch.Size, sizes: tuple[int, ...], dtype: torch.dtype
    ) -> torch.Tensor:
        place: Any = (self._metadata.storage_data or {}).get(MetadataIndex(key, offsets))
        if place is None:
            raise CheckpointError(f"{self._folder}: {key}: no file holds the chunk at {offsets}")
        path = self._folder / place.relative_path
        start = _plain_start(path, place, math.prod(sizes) * dtype.itemsize)
        if start is not None:
            if path.name not in self._files:
                self._files[path.name] = MappedFile(path)
            return self._files[path.name].tensor(start, sizes, dtype)
        value = read_object(self._folder, place)
        if not isinstance(value, torch.Tensor) or tuple(value.shape) != sizes:
            raise CheckpointError(f"{self._folder}: {key}: no tensor of {sizes} at {offsets}")
        return value.to(dtype)


def _plain_start(path: Path, place: Any, num_bytes: int) -> int | None:
    """Where in the file the bytes of a chunk begin; None where they do not lie plainly.

    torch stores a tensor as a ZIP archive whose one large member is the tensor's memory. It lies
    plainly if it has the size of the chunk and is not compressed.
    """
    with path.open("rb") as file:
        part = _Part(file, place.offset, place.length)
        with zipfile.ZipFile(part) as archive:  # type: ignore[arg-type]  # it reads, seeks and tells
            members = [each for each in archive.infolist() if "/data/" in each.filename]
        if len(members) != 1 or members[0].file_size != num_bytes or num_bytes == 0:
            return None
        if members[0].compress_type != zipfile.ZIP_STORED:
            return None
        return place.offset + _data_start(part, members[0].header_offset)


def stored_as(weight: Weight, model: ModelOptions) -> list[tuple[str, tuple[int, ...]]]:
    """Keys under which a weight may stand, with its place on the axes before its own.

    First as e3mega writes it, then with the layers as a first axis.
    """
    experts = tuple(int(number) for number in _EXPERT.findall(weight.name))
    key = _EXPERT.sub("experts.", weight.name)
    for name, fused in _FUSED.items():
        if name == ".pre_mlp_layernorm." and model.has_experts_in(weight.layer):
            continue
        key = key.replace(name, fused)
    layers = tuple(int(number) for number in _LAYER.findall(key))
    stacked = _LAYER.sub("layers.", key)
    return [(key, experts), (stacked, (*layers, *experts))]


class _Part:
    """A stretch of a file as a file of its own, for ``zipfile``."""

    def __init__(self, file: BinaryIO, start: int, length: int) -> None:
        self._file, self._start, self._length = file, start, length
        self._at = 0

    def seekable(self) -> bool:
        """It can be sought in."""
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move; ``whence`` as for any file."""
        origin = (0, self._at, self._length)[whence]
        self._at = origin + offset
        self._file.seek(self._start + self._at)
        return self._at

    def tell(self) -> int:
        """Where the next read begins."""
        return self._at

    def read(self, size: int = -1) -> bytes:
        """The next bytes, none beyond the stretch."""
        left = self._length - self._at
        self._file.seek(self._start + self._at)
        data = self._file.read(left if size < 0 else min(size, left))
        self._at += len(data)
        return data


def _data_start(part: _Part, header_offset: int) -> int:
    """Where a member's bytes begin: behind its local header, its name and its extra field."""
    part.seek(header_offset)
    header = part.read(30)
    name, extra = (int.from_bytes(header[at : at + 2], "little") for at in (26, 28))
    return header_offset + 30 + name + extra
