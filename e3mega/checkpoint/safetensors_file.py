"""Safetensors files of a Hugging Face folder, written tensor by tensor and read slice by slice."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import torch

from e3mega.checkpoint.early_writeback import EarlyWriteback
from e3mega.checkpoint.mapped_file import MappedFile
from e3mega.errors import CheckpointError
from e3mega.families.mapping import HfTensor, Piece, Weight

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
_MAX_FILE_BYTES = 4 << 30
_NAMES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16"}


@dataclass(frozen=True, slots=True)
class TensorFacts:
    """What a file says of a tensor. Example: ``TensorFacts("model.norm.weight", f32, (8,))``."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def num_bytes(self) -> int:
        """Bytes of its values."""
        return torch.Size(self.shape).numel() * self.dtype.itemsize


class SafetensorsWriter:
    """Writes tensors in an order that is known beforehand, so that none waits in memory.

    One file, or several of at most ``max_file_bytes`` (a larger tensor has a file of its own) with
    the index that transformers and vLLM read.
    """

    def __init__(
        self, folder: Path, facts: list[TensorFacts], *, max_file_bytes: int = _MAX_FILE_BYTES
    ) -> None:
        self._folder = folder
        self._files = _divided(facts, max_file_bytes)
        self._names = _file_names(len(self._files))
        self._waiting = [(number, each) for number, file in enumerate(self._files) for each in file]
        self._open: tuple[int, BinaryIO, EarlyWriteback] | None = None

    def add(self, name: str, value: torch.Tensor) -> None:
        """Write the next tensor."""
        number, wanted = self._waiting.pop(0)
        found = TensorFacts(name, value.dtype, tuple(value.shape))
        assert found == wanted, f"{found} came where {wanted} belongs"
        if self._open is None or self._open[0] != number:
            self._close_file()
            file = (self._folder / self._names[number]).open("wb")
            self._open = (number, file, EarlyWriteback(file))
            file.write(_header(self._files[number]))
        flat = value.detach().to("cpu").contiguous().view(-1).view(torch.uint8)
        self._open[1].write(memoryview(flat.numpy()))
        self._open[2].advance()

    def close(self) -> None:
        """Finish the last file and write the index, if there are several."""
        assert not self._waiting, f"{self._waiting[0][1].name} never came"
        self._close_file()
        if len(self._files) == 1:
            return
        total = sum(each.num_bytes for file in self._files for each in file)
        places = {
            each.name: name
            for name, file in zip(self._names, self._files, strict=True)
            for each in file
        }
        index = {"metadata": {"total_size": total}, "weight_map": places}
        (self._folder / INDEX).write_text(json.dumps(index, indent=2) + "\n")

    def _close_file(self) -> None:
        if self._open is not None:
            file = self._open[1]
            file.flush()
            os.fsync(file.fileno())
            file.close()
            self._open = None


class SafetensorsReader:
    """The tensors of a Hugging Face folder; only rows that are asked for are read, when used."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, MappedFile] = {}
        self._places: dict[str, tuple[str, int]] = {}
        self._facts: dict[str, TensorFacts] = {}
        index = folder / INDEX
        names = [SINGLE]
        if index.exists():
            names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        for name in names:
            self._read_header(name)

    def facts(self) -> dict[str, TensorFacts]:
        """What the folder holds, by name."""
        return self._facts

    def piece(self, weight: Weight, piece: Piece) -> torch.Tensor:
        """The rows or columns of one of a weight's tensors."""
        tensor = weight.hf[piece.source]
        if piece.dim == 1:
            return self.rows(tensor, 0, tensor.shape[0])[:, piece.start : piece.stop]
        return self.rows(tensor, piece.start, piece.stop)

    def rows(self, tensor: HfTensor, start: int, stop: int) -> torch.Tensor:
        """Rows of a tensor, which may be all; raises CheckpointError when it is another."""
        facts = self._facts.get(tensor.name)
        if facts is None:
            raise CheckpointError(f"{self._folder} holds no tensor {tensor.name}")
        if facts.shape != tensor.shape:
            raise CheckpointError(
                f"{self._folder}: {tensor.name} has shape {facts.shape}, but the geometry makes "
                f"it {tensor.shape}"
            )
        file, first = self._places[tensor.name]
        row_bytes = facts.num_bytes // facts.shape[0]
        shape = (stop - start, *facts.shape[1:])
        return self._files[file].tensor(first + start * row_bytes, shape, facts.dtype)

    def forget(self) -> None:
        """Give back the memory of the tensors that were read; they can be read again."""
        for file in self._files.values():
            file.forget()

    def _read_header(self, name: str) -> None:
        path = self._folder / name
        if not path.exists():
            raise CheckpointError(f"{path} is missing")
        by_name = {written: dtype for dtype, written in _NAMES.items()}
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > path.stat().st_size - 8:
                raise CheckpointError(f"{path} is no safetensors file, or was cut")
            entries = json.loads(file.read(length))
        self._files[name] = MappedFile(path)
        for tensor, entry in entries.items():
            if tensor == "__metadata__":
                continue
            dtype = by_name.get(entry["dtype"])
            if dtype is None:
                raise CheckpointError(
                    f"{path}: {tensor} is {entry['dtype']}; need one of "
                    f"{', '.join(_NAMES.values())}"
                )
            start, stop = entry["data_offsets"]
            facts = TensorFacts(tensor, dtype, tuple(entry["shape"]))
            if facts.num_bytes != stop - start or 8 + length + stop > path.stat().st_size:
                raise CheckpointError(f"{path}: {tensor}: its bytes are not all there")
            self._facts[tensor] = facts
            self._places[tensor] = (name, 8 + length + start)


def _divided(facts: list[TensorFacts], max_file_bytes: int) -> list[list[TensorFacts]]:
    files: list[list[TensorFacts]] = [[]]
    num_bytes = 0
    for each in facts:
        if files[-1] and num_bytes + each.num_bytes > max_file_bytes:
            files.append([])
            num_bytes = 0
        files[-1].append(each)
        num_bytes += each.num_bytes
    return files


def _file_names(count: int) -> list[str]:
    if count == 1:
        return [SINGLE]
    return [f"model-{number:05d}-of-{count:05d}.safetensors" for number in range(1, count + 1)]


def _header(facts: list[TensorFacts]) -> bytes:
    """The file's head: eight bytes of length, then JSON padded to a multiple of eight."""
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    start = 0
    for each in facts:
        stop = start + each.num_bytes
        entries[each.name] = {
            "dtype": _NAMES[each.dtype],
            "shape": list(each.shape),
            "data_offsets": [start, stop],
        }
        start = stop
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text
