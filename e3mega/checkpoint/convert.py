"""Converts between Hugging Face folders and Megatron checkpoints, a few tensors at a time.

Both directions go through the mapping table that loading and the weight sync use. Neither builds a
model or starts ranks.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import torch

from e3mega.checkpoint.global_tensors import GlobalTensors, stored_as
from e3mega.checkpoint.hf import CONFIG, copy_description, write_hf_folder
from e3mega.checkpoint.manifest import (
    Lineage,
    Manifest,
    file_facts,
    newest_complete,
    read_manifest,
    verify,
    write_manifest,
)
from e3mega.checkpoint.reused_memory import ReusedMemory
from e3mega.checkpoint.safetensors_file import SafetensorsReader
from e3mega.checkpoint.torch_dist_file import TorchDistFile
from e3mega.errors import CheckpointError
from e3mega.families.geometry import ModelOptions, Precision
from e3mega.families.hf_config import geometry, read_config
from e3mega.families.mapping import Shard, Weight, pieces, shard_shape
from e3mega.families.registry import weights
from e3mega.plan.paths import MANIFEST, RunPaths, unfinished
from e3mega.plan.topology import shard_holders
from e3mega.spec.schema.layout import LearnerLayout
from e3mega.weights.source import spread

Progress = Callable[[int], None]
"""Told the bytes of each tensor when it has been written."""


def refuse_existing(folder: Path) -> None:
    """Raise CheckpointError when there is something at the path already."""
    if folder.exists():
        raise CheckpointError(f"{folder} exists; choose another folder, or remove it first")


def import_hf(source: Path, target: Path, layout: LearnerLayout, progress: Progress) -> Manifest:
    """Write a Hugging Face folder as a checkpoint of this grid, without an optimizer.

    Raises CheckpointError or ModelError when the folder's model is not supported, does not divide
    among the ranks, or lacks a tensor.
    """
    refuse_existing(target)
    model = model_of(source)
    partial = unfinished(target)
    shutil.rmtree(partial, ignore_errors=True)
    description = RunPaths.checkpoint_model(partial)
    description.mkdir(parents=True)
    copy_description(source, description)
    reader = SafetensorsReader(source)
    file = TorchDistFile(RunPaths.sharded(partial))
    with _one_thread():
        for weight in weights(model):
            _import_weight(weight, model, layout, reader, file)
            reader.forget()
            progress(sum(num_bytes(tensor.shape, model) for tensor in weight.hf))
    sharded = RunPaths.sharded(partial).relative_to(partial)
    facts = {str(sharded / name): fact for name, fact in file.close().items()}
    names = [str(path.relative_to(partial)) for path in partial.rglob("*") if path.is_file()]
    facts |= file_facts(partial, [name for name in names if name not in facts])
    manifest = Manifest(
        version=0,
        stage="",
        model=model,
        layout=layout,
        lineage=Lineage(source.resolve().name, 0, version("e3mega"), "", ()),
        has_optimizer=False,
        score=None,
        files=dict(sorted(facts.items())),
    )
    write_manifest(partial, manifest)
    os.replace(partial, target)
    return manifest


def export_checkpoint(source: Path, target: Path, progress: Progress) -> tuple[Manifest, bool]:
    """Write a checkpoint, or the newest of a run, as a Hugging Face folder.

    Returns its manifest, and whether a tokenizer was there to go with it. Raises CheckpointError
    when no complete checkpoint is found or a file of it is damaged.
    """
    refuse_existing(target)
    folder = checkpoint_of(source)
    manifest = read_manifest(folder)
    description = RunPaths.checkpoint_model(folder)
    tensors = GlobalTensors(RunPaths.sharded(folder), manifest.model)
    # Checksums are computed beside the conversion; the folder appears only when they hold.
    with _one_thread(), ThreadPoolExecutor(1) as pool:
        checked = pool.submit(verify, folder, num_threads=1)

        def values() -> Iterator[tuple[str, torch.Tensor]]:
            yield from exported(tensors, manifest.model, progress)
            checked.result()

        is_tokenized = write_hf_folder(
            values(),
            target,
            model=manifest.model,
            lineage=manifest.lineage,
            description=description if description.exists() else None,
        )
    return manifest, is_tokenized


def checkpoint_of(source: Path) -> Path:
    """The checkpoint that a path names: itself, or the newest complete one of a run folder."""
    if (source / MANIFEST).exists():
        return source
    newest = newest_complete(RunPaths(source)).folder
    if newest is None:
        raise CheckpointError(
            f"{source} is neither a complete checkpoint nor a run folder that has one; name a "
            "folder with a manifest.json, or one with checkpoints/"
        )
    return newest


def model_of(folder: Path) -> ModelOptions:
    """The geometry that a Hugging Face folder states, at the precision its tensors have."""
    reader = SafetensorsReader(folder)
    dtypes = {facts.dtype for facts in reader.facts().values()}
    named = {torch.float32: Precision.FLOAT32, torch.bfloat16: Precision.BFLOAT16}
    if len(dtypes) != 1 or not dtypes <= set(named):
        found = ", ".join(sorted(str(dtype) for dtype in dtypes))
        raise CheckpointError(f"{folder}: tensors are {found}; need all float32 or all bfloat16")
    section = geometry(read_config(folder), str(folder / CONFIG))
    model = ModelOptions.model_validate(section, strict=False)
    return model.model_copy(update={"precision": named[dtypes.pop()]})


def model_bytes(model: ModelOptions) -> int:
    """Bytes of all tensors of the model."""
    return sum(num_bytes(each.shape, model) for weight in weights(model) for each in weight.hf)


def num_bytes(shape: tuple[int, ...], model: ModelOptions) -> int:
    """Bytes of a tensor at the model's precision."""
    return torch.Size(shape).numel() * (4 if model.precision is Precision.FLOAT32 else 2)


def exported(
    tensors: GlobalTensors, model: ModelOptions, progress: Progress
) -> Iterator[tuple[str, torch.Tensor]]:
    """The Hugging Face tensors of a Megatron checkpoint, in their order.

    A tensor's memory is used again when the next weight is read.
    """
    memory = ReusedMemory(1)
    for weight in weights(model):
        whole = tensors.read(weight)
        if weight.shard is Shard.QKV:
            rows = [each.shape[0] for each in weight.hf]
            parts = memory.empty((sum(rows), *weight.hf[0].shape[1:]), whole.dtype).split(rows)
            spread(whole, parts, weight, tp_rank=0, tp=1)
        else:
            # One after the other; a vocabulary's padding stands behind its rows.
            rows = [each.shape[0] for each in weight.hf]
            parts = whole[: sum(rows)].split(rows)
        for tensor, value in zip(weight.hf, parts, strict=True):
            yield tensor.name, value
        tensors.forget()
        progress(sum(value.nbytes for value in parts))


@contextmanager
def _one_thread() -> Iterator[None]:
    """Have torch copy tensors on one core; checksums use the others."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _import_weight(
    weight: Weight,
    model: ModelOptions,
    layout: LearnerLayout,
    reader: SafetensorsReader,
    file: TorchDistFile,
) -> None:
    holders = shard_holders(model, layout, weight)
    key, lead = stored_as(weight, model)[0]
    experts = (model.experts.num_experts,) if lead and model.experts is not None else ()
    dim = 1 if weight.shard is Shard.ROW else 0
    shape = shard_shape(weight, len(holders))
    size = list(shape)
    size[dim] *= len(holders)
    # A shard of columns is a part of every row: the tensor is read once for all of them.
    whole = reader.rows(weight.hf[0], 0, weight.hf[0].shape[0]) if dim == 1 else None
    for rank, world_rank in enumerate(holders):
        shares = pieces(weight, tp_rank=rank, tp=len(holders))
        if whole is None:
            blocks = [reader.piece(weight, piece) for piece in shares]
        else:
            blocks = [whole[:, piece.start : piece.stop] for piece in shares]
        parts = [[block] for block in blocks] if weight.shard is Shard.GATE_UP else [blocks]
        for number, part in enumerate(parts):
            own = list(shape)
            own[dim] //= len(parts)
            padding = own[dim] - sum(block.shape[dim] for block in part)
            offsets = [0] * len(own)
            offsets[dim] = own[dim] * (rank + number * len(holders))
            file.add(
                key,
                [*part, part[0].new_zeros(padding, *own[1:])] if padding else part,
                shape=(*(1,) * len(lead), *own),
                offsets=(*lead, *offsets),
                size=(*experts, *size),
                world_rank=world_rank,
            )
