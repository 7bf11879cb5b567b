"""Packed batches as files: safetensors with the header and a checksum in the metadata."""

import json
import zlib
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from e3mega.errors import RecordError
from e3mega.rollout.batch import PackedBatch
from e3mega.rollout.whole_file import write_whole

Array = NDArray[Any]

_METADATA_KEY = "e3mega"
ARRAY_NAMES = tuple(field.name for field in fields(PackedBatch) if field.name.endswith("_NT"))
HEADER_NAMES = tuple(field.name for field in fields(PackedBatch) if field.name not in ARRAY_NAMES)


def _checksum(header: str, arrays: dict[str, Array]) -> str:
    """CRC-32 of the header and of the arrays in the order of the record's fields."""
    value = zlib.crc32(header.encode())
    for name in ARRAY_NAMES:
        value = zlib.crc32(np.ascontiguousarray(arrays[name]).data, value)
    return f"{value:08x}"


def write_batch(path: Path, batch: PackedBatch) -> None:
    """Write a batch in one rename; the same batch gives the same bytes."""
    header = json.dumps({name: getattr(batch, name) for name in HEADER_NAMES})
    arrays: dict[str, Array] = {
        name: np.ascontiguousarray(getattr(batch, name)) for name in ARRAY_NAMES
    }
    # One key, since safetensors writes several in an order that changes from call to call.
    about = json.dumps({"header": header, "crc32": _checksum(header, arrays)})
    write_whole(path, save(arrays, metadata={_METADATA_KEY: about}))


def _open(path: Path) -> tuple[str, dict[str, Array]]:
    open_file: Any = safe_open  # its stub leaves the handle untyped
    with open_file(path, framework="numpy") as file:
        metadata: dict[str, str] = file.metadata() or {}
        return metadata.get(_METADATA_KEY, "{}"), {
            name: file.get_tensor(name) for name in ARRAY_NAMES
        }


def read_batch(path: Path) -> PackedBatch:
    """Read a batch; RecordError names the file when it is missing, cut, or changed."""
    try:
        about, arrays = _open(path)
    except (SafetensorError, OSError) as error:
        raise RecordError(f"{path}: not a packed batch: {error}; remove it and resume") from error
    written: dict[str, str] = json.loads(about)
    header = written.get("header", "")
    if written.get("crc32") != _checksum(header, arrays):
        raise RecordError(
            f"{path}: the checksum of the packed batch is not the one it was written with; "
            "remove it and resume"
        )
    values: dict[str, Any] = {**json.loads(header), **arrays}
    return PackedBatch(**values)
