"""Memory for tensors that are used up one after the other, taken once."""

import torch


class ReusedMemory:
    """Gives uninitialised tensors; each is overwritten by the ``num_tensors``-th after it.

    New memory for every tensor would cost more than filling it: the kernel clears each page.
    """

    def __init__(self, num_tensors: int) -> None:
        self._memories = [torch.empty(0, dtype=torch.uint8) for _ in range(num_tensors)]

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """A contiguous tensor of this shape."""
        num_bytes = torch.Size(shape).numel() * dtype.itemsize
        memory = self._memories.pop(0)
        if len(memory) < num_bytes:
            memory = torch.empty(num_bytes, dtype=torch.uint8)
        self._memories.append(memory)
        return memory[:num_bytes].view(dtype).view(shape)
