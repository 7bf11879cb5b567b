"""Safetensors files of a Hugging Face folder, written tensor by tensor and read slice by slice."""

import json
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import safe_open

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
        self._open: tuple[int, BinaryIO] | None = None

    def add(self, name: str, value: torch.Tensor) -> None:
        """Write the next tensor."""
        number, wanted = self._waiting.pop(0)
        found = TensorFacts(name, value.dtype, tuple(value.shape))
        assert found == wanted, f"{found} came where {wanted} belongs"
        if self._open is None or self._open[0] != number:
            self._close_file()
            self._open = (number, (self._folder / self._names[number]).open("wb"))
            self._open[1].write(_header(self._files[number]))
        flat = value.detach().to("cpu").contiguous().view(-1).view(torch.uint8)
        self._open[1].write(memoryview(flat.numpy()))

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
            self._open[1].close()
            self._open = None


class SafetensorsReader:
    """The tensors of a Hugging Face folder; only the rows and columns asked for are read."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = ExitStack()
        self._files: dict[Path, Any] = {}
        index = folder / INDEX
        self._places: dict[str, str] = {}
        if index.exists():
            self._places = json.loads(index.read_text())["weight_map"]

    def facts(self) -> dict[str, TensorFacts]:
        """What the folder holds, by name."""
        by_name = {name: dtype for dtype, name in _NAMES.items()}
        found: dict[str, TensorFacts] = {}
        for file in sorted(set(self._places.values())) or [SINGLE]:
            handle = self._file(self._folder / file)
            for name in handle.keys():  # noqa: SIM118  # a safetensors handle, not a dict
                part = handle.get_slice(name)
                dtype = by_name.get(part.get_dtype())
                if dtype is None:
                    raise CheckpointError(
                        f"{self._folder / file}: {name} is {part.get_dtype()}; need one of "
                        f"{', '.join(_NAMES.values())}"
                    )
                found[name] = TensorFacts(name, dtype, tuple(part.get_shape()))
        return found

    def whole(self, tensor: HfTensor) -> torch.Tensor:
        """A whole tensor."""
        return self._slice(tensor)[:]

    def piece(self, weight: Weight, piece: Piece) -> torch.Tensor:
        """The rows or columns of one of a weight's tensors."""
        part = self._slice(weight.hf[piece.source])
        if piece.dim == 1:
            return part[:, piece.start : piece.stop]
        return part[piece.start : piece.stop]

    def close(self) -> None:
        """Close the files."""
        self._stack.close()
        self._files.clear()

    def _slice(self, tensor: HfTensor) -> Any:
        path = self._folder / self._places.get(tensor.name, SINGLE)
        handle = self._file(path)
        if tensor.name not in handle.keys():  # noqa: SIM118  # a safetensors handle, not a dict
            raise CheckpointError(f"{path} holds no tensor {tensor.name}")
        part = handle.get_slice(tensor.name)
        if tuple(part.get_shape()) != tensor.shape:
            raise CheckpointError(
                f"{path}: {tensor.name} has shape {tuple(part.get_shape())}, but the geometry "
                f"makes it {tensor.shape}"
            )
        return part

    def _file(self, path: Path) -> Any:
        if path not in self._files:
            if not path.exists():
                raise CheckpointError(f"{path} is missing")
            self._files[path] = self._stack.enter_context(safe_open(path, framework="pt"))
        return self._files[path]


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
