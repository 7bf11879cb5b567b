"""Cheap checksums of tensors, the same on both sides of a weight sync."""

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def tensor_checksum(tensor: "torch.Tensor") -> str:
    """16 hexadecimal digits over the bytes, the shape and the dtype; BLAKE2b with 8 bytes."""
    import torch

    flat = tensor.detach().to("cpu").contiguous().reshape(-1)
    digest = hashlib.blake2b(flat.view(torch.uint8).numpy(), digest_size=8)
    digest.update(f"{tuple(tensor.shape)} {tensor.dtype}".encode())
    return digest.hexdigest()
