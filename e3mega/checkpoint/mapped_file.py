"""A file's bytes as tensors that lie in the kernel's cache, not in this process."""

import mmap
from pathlib import Path

import torch

from e3mega.errors import CheckpointError


class MappedFile:
    """A file for reading in stretches; nothing is copied.

    What was looked at counts as memory of this process until ``forget``.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with path.open("rb") as file:
            # Private, so that torch may take it for memory that could be written to.
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)

    def tensor(self, start: int, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """The contiguous tensor at a byte of the file; raises CheckpointError behind its end."""
        count = torch.Size(shape).numel()
        if start + count * dtype.itemsize > len(self._map):
            raise CheckpointError(f"{self._path}: ends before its tensors do")
        if count == 0:
            return torch.empty(shape, dtype=dtype)
        return torch.frombuffer(self._map, dtype=dtype, count=count, offset=start).view(shape)

    def forget(self) -> None:
        """Give back the memory of what was looked at; tensors stay, and are read again if used."""
        self._map.madvise(mmap.MADV_DONTNEED)
