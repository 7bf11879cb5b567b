"""Reads Megatron's distributed checkpoints without executing anything that stands in them.

Their ``.metadata`` is a pickle, and torch unpickles it, and the objects among the tensors, without
a limit. Here the pickle may name only the records it is made of, and every object is first read
by torch's own restricted unpickler.
"""

import io
import pathlib
import pickle
from pathlib import Path
from typing import Any

import torch
from megatron.core.dist_checkpointing import serialization
from megatron.core.dist_checkpointing.strategies import torch as torch_strategy
from torch.distributed.checkpoint import filesystem, metadata, planner
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta
from torch.distributed.checkpoint.planner import LoadItemType, LoadPlan, LoadPlanner
from torch.futures import Future

from e3mega.errors import CheckpointError

_METADATA = ".metadata"
_RECORDS: dict[str, set[str]] = {
    filesystem.__name__: {"_StorageInfo", "_StoragePrefix"},
    metadata.__name__: {
        *("BytesStorageMetadata", "ChunkStorageMetadata", "Metadata", "MetadataIndex"),
        *("StorageMeta", "TensorProperties", "TensorStorageMetadata", "_MEM_FORMAT_ENCODING"),
    },
    planner.__name__: {
        *("BytesIOWriteData", "SavePlan", "TensorWriteData", "WriteItem", "WriteItemType"),
    },
    torch_strategy.__name__: {"MCoreMetadata", "MCoreSavePlan"},
    torch.serialization.__name__: {"_get_layout"},
    pathlib.__name__: {"Path", "PosixPath", "PurePosixPath"},
    "pathlib._local": {"Path", "PosixPath", "PurePosixPath"},
    "collections": {"OrderedDict"},
}


class _RecordUnpickler(pickle.Unpickler):
    """Makes the records of a checkpoint's metadata and nothing else."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        """The named class, if metadata is made of it; raises CheckpointError otherwise."""
        is_torch = module_name == "torch" and (
            global_name == "Size" or isinstance(getattr(torch, global_name, None), torch.dtype)
        )
        if not is_torch and global_name not in _RECORDS.get(module_name, ()):
            raise CheckpointError(
                f"{module_name}.{global_name} is no part of a checkpoint's metadata; the file may "
                "be made to do harm, and is not read"
            )
        return super().find_class(module_name, global_name)


class SafeReader(FileSystemReader):
    """torch's reader of distributed checkpoints, with nothing executed."""

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        """The checkpoint's metadata; raises CheckpointError when it is not only that."""
        found = read_metadata(Path(self.path))
        found.storage_meta = found.storage_meta or StorageMeta()
        found.storage_meta.load_id = self.load_id
        return found

    def read_data(self, plan: LoadPlan, planner: LoadPlanner) -> Future[None]:
        """Read what the plan asks for, objects only if the restricted unpickler takes them."""
        for item in plan.items:
            if item.type is LoadItemType.BYTE_IO:
                place = self.storage_data[item.storage_index]
                read_object(Path(self.path), place)
        return super().read_data(plan, planner)


def read_metadata(folder: Path) -> Metadata:
    """What a folder of Megatron's files holds and where; raises CheckpointError naming the file."""
    path = folder / _METADATA
    try:
        with path.open("rb") as file:
            found = _RecordUnpickler(file).load()
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    except (OSError, EOFError, pickle.UnpicklingError, AttributeError, TypeError) as error:
        raise CheckpointError(f"{path}: no metadata of a checkpoint: {error}") from error
    if not isinstance(found, Metadata):
        raise CheckpointError(f"{path}: holds a {type(found).__name__}, no metadata")
    for place in (found.storage_data or {}).values():
        _check_place(folder, place)
    return found


def read_object(folder: Path, place: Any) -> Any:
    """The object or tensor at a place of the metadata, by torch's restricted unpickler."""
    path = folder / place.relative_path
    with path.open("rb") as file:
        file.seek(place.offset)
        data = io.BytesIO(file.read(place.length))
    try:
        with torch.serialization.safe_globals([io.BytesIO]):
            return torch.load(data, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise CheckpointError(
            f"{path}: what starts at byte {place.offset} is not plain data; it may be made to do "
            "harm, and is not read"
        ) from error


def install() -> None:
    """Have Megatron-Core read every checkpoint of this process through ``SafeReader``."""
    module: Any
    for module in (serialization, torch_strategy):
        module._get_filesystem_reader = lambda folder, **_: SafeReader(folder)


def _check_place(folder: Path, place: Any) -> None:
    """Refuse a metadata file that points outside its folder."""
    name = getattr(place, "relative_path", None)
    if not isinstance(name, str) or Path(name).name != name:
        raise CheckpointError(f"{folder / _METADATA}: {name!r} is no file of this folder")
