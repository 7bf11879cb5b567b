"""Compares a converted model with what it was made of: names, shapes, dtypes and values."""

from pathlib import Path

import torch

from e3mega.checkpoint.global_tensors import GlobalTensors
from e3mega.checkpoint.manifest import read_manifest
from e3mega.checkpoint.safetensors_file import SafetensorsReader
from e3mega.errors import CheckpointError
from e3mega.families.mapping import pieces
from e3mega.families.registry import weights
from e3mega.plan.paths import RunPaths


def compare_tensors(hf_folder: Path, checkpoint: Path) -> int:
    """Compare every tensor bit for bit, one at a time; the number of tensors.

    Raises CheckpointError naming the first that is missing, extra or different.
    """
    reader = SafetensorsReader(hf_folder)
    facts = reader.facts()
    model = read_manifest(checkpoint).model
    tensors = GlobalTensors(RunPaths.sharded(checkpoint), model)
    table = weights(model)
    wanted = {tensor.name for weight in table for tensor in weight.hf}
    # Hugging Face folders may hold a tied head a second time.
    extra = sorted(set(facts) - wanted - ({"lm_head.weight"} if model.ties_embeddings else set()))
    if extra:
        raise CheckpointError(f"{hf_folder}: {extra[0]} has no place in the checkpoint")
    for weight in table:
        whole = tensors.read(weight)
        offset = 0
        for piece in pieces(weight, tp_rank=0, tp=1):
            tensor = weight.hf[piece.source]
            length = piece.stop - piece.start
            theirs = reader.piece(weight, piece)
            ours = whole.narrow(piece.dim, offset, length)
            offset += length
            if theirs.dtype != ours.dtype:
                raise CheckpointError(
                    f"{tensor.name}: {theirs.dtype} in {hf_folder}, {ours.dtype} in {checkpoint}"
                )
            if not torch.equal(_bits(theirs), _bits(ours)):
                raise CheckpointError(
                    f"{tensor.name}: its values in {hf_folder} are not those in {checkpoint}"
                )
        reader.forget()
        tensors.forget()
    return len(wanted)


def _bits(value: torch.Tensor) -> torch.Tensor:
    """The bytes of a tensor, so that NaN equals NaN and 0 differs from -0."""
    return value.contiguous().view(-1).view(torch.uint8)
