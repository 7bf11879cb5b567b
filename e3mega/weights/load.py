"""Fills the learner's shards from HF-named tensors: seeded random ones or a folder's."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import safe_open

from e3mega.errors import CheckpointError
from e3mega.families.folder_digest import folder_digest
from e3mega.families.hf_config import check_geometry, read_config
from e3mega.families.mapping import HfTensor, Shard, Start, Weight, pieces
from e3mega.families.registry import weights
from e3mega.mcore.build import LearnerModel

Reader = Callable[[HfTensor], torch.Tensor]
"""Gives the whole HF tensor on the host."""


def load_start(learner: LearnerModel, *, seed: int) -> None:
    """Fill the starting weights: the model's HF folder if it names one, else seeded random ones.

    Raises ModelError when the folder's configuration is of another model than the spec's.
    """
    if learner.model.hf_path is None:
        load_weights(learner, random_reader(learner, seed))
        return
    folder = Path(learner.model.hf_path)
    if learner.grid.place.world_rank == 0:
        check_digest(folder, learner.model.hf_sha256)
    check_geometry(learner.model, read_config(folder), str(folder / "config.json"))
    load_weights(learner, folder_reader(folder))


def check_digest(folder: Path, wanted: str | None) -> None:
    """Raise CheckpointError when a pinned folder holds other weights than it was pinned to."""
    found = folder_digest(folder) if wanted is not None else None
    if found != wanted:
        raise CheckpointError(
            f"{folder}: its digest is {found}, model.hf_sha256 asks for {wanted}; fetch the "
            "weights that were pinned, or pin these with `e3mega pin`"
        )


def load_weights(learner: LearnerModel, read: Reader) -> None:
    """Fill this rank's parameters, and the optimizer's main copy of them.

    All ranks call it, each with a reader that gives the same tensors; no collective is involved.
    """
    for weight, parameter in (*learner.held_weights(), *learner.copies()):
        _fill(parameter, weight, learner, read)
    learner.optimizer.reload_model_params()


def random_reader(learner: LearnerModel, seed: int) -> Reader:
    """Random starting weights that depend on the seed and on the names, not on the rank grid."""
    starts = {tensor.name: w.start for w in weights(learner.model) for tensor in w.hf}
    std = learner.model.init_std

    def read(tensor: HfTensor) -> torch.Tensor:
        if starts[tensor.name] is Start.ONE:
            return torch.ones(tensor.shape)
        if starts[tensor.name] is Start.ZERO:
            return torch.zeros(tensor.shape)
        digest = hashlib.sha256(f"{seed}:{tensor.name}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
        return torch.empty(tensor.shape).normal_(0.0, std, generator=generator)

    return read


def folder_reader(folder: Path) -> Reader:
    """Tensors of a Hugging Face folder with safetensors, in one file or several.

    The reader raises CheckpointError when a tensor is missing or of another shape.
    """
    index = folder / "model.safetensors.index.json"
    files: dict[str, str] = {}
    if index.exists():
        files = json.loads(index.read_text())["weight_map"]

    def read(tensor: HfTensor) -> torch.Tensor:
        path = folder / files.get(tensor.name, "model.safetensors")
        if not path.exists():
            raise CheckpointError(f"{path} is missing; it should hold {tensor.name}")
        with safe_open(path, framework="pt") as file:
            if tensor.name not in file.keys():  # noqa: SIM118  # a safetensors handle, not a dict
                raise CheckpointError(f"{path} holds no tensor {tensor.name}")
            value = file.get_tensor(tensor.name)
        if tuple(value.shape) != tensor.shape:
            raise CheckpointError(
                f"{path}: {tensor.name} has shape {tuple(value.shape)}, but the model section "
                f"of the spec makes it {tensor.shape}; correct the geometry"
            )
        return value

    return read


def _fill(
    parameter: torch.nn.Parameter, weight: Weight, learner: LearnerModel, read: Reader
) -> None:
    shard_rank, num_shards = learner.grid.shard_of(weight)
    tensors = [read(tensor) for tensor in weight.hf]
    shares = [
        tensors[piece.source].narrow(piece.dim, piece.start, piece.stop - piece.start)
        for piece in pieces(weight, tp_rank=shard_rank, tp=num_shards)
    ]
    shard = torch.cat(shares, dim=1 if weight.shard is Shard.ROW else 0)
    with torch.no_grad():
        # A vocabulary's padding stands behind its rows.
        parameter[: len(shard)].copy_(shard)
        parameter[len(shard) :].zero_()
