"""Checkpoints of others are read without executing anything in them."""

import io
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed.checkpoint import CheckpointException, FileSystemReader
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.metadata import BytesStorageMetadata, Metadata, MetadataIndex

from e3mega.checkpoint.safe_reading import SafeReader, read_metadata, read_object
from e3mega.errors import CheckpointError


class Harm:
    """Writes a file when it is unpickled."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.witness}",)


def _write(folder: Path, metadata: object) -> None:
    (folder / ".metadata").write_bytes(pickle.dumps(metadata))


def test_a_pickle_that_calls_a_function_is_not_obeyed(tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    _write(tmp_path, Metadata({"weight": Harm(witness)}, storage_data={}))  # type: ignore[dict-item]  # harm
    FileSystemReader(tmp_path).read_metadata()
    assert witness.exists(), "torch's reader obeys it"
    witness.unlink()
    with pytest.raises(CheckpointError, match=r"(posix|nt)\.system is no part"):
        read_metadata(tmp_path)
    with pytest.raises(CheckpointError):
        SafeReader(tmp_path).read_metadata()
    assert not witness.exists()


@pytest.mark.parametrize(
    ("module", "name"),
    [("builtins", "eval"), ("torch", "load"), ("torch.serialization", "load"), ("torch", "hub")],
)
def test_only_records_may_be_named(tmp_path: Path, module: str, name: str) -> None:
    (tmp_path / ".metadata").write_bytes(b"c" + f"{module}\n{name}\n.".encode())
    with pytest.raises(CheckpointError, match="no part"):
        read_metadata(tmp_path)


def test_an_object_among_the_tensors_is_not_obeyed(tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    buffer = io.BytesIO()
    torch.save([Harm(witness)], buffer)
    (tmp_path / "__0_0.distcp").write_bytes(buffer.getvalue())
    place = _StorageInfo("__0_0.distcp", 0, len(buffer.getvalue()))
    with pytest.raises(CheckpointError, match="plain data"):
        read_object(tmp_path, place)
    assert not witness.exists()


def test_megatron_s_own_load_goes_through_it(tmp_path: Path) -> None:
    from megatron.core.dist_checkpointing import serialization

    from e3mega.checkpoint import safe_reading

    safe_reading.install()
    witness = tmp_path / "witness"
    buffer = io.BytesIO()
    torch.save([Harm(witness)], buffer)
    (tmp_path / "__0_0.distcp").write_bytes(buffer.getvalue())
    (tmp_path / "metadata.json").write_text('{"sharded_backend": "torch_dist"}')
    place = _StorageInfo("__0_0.distcp", 0, len(buffer.getvalue()))
    key = "common_state/shard_0_1"
    _write(tmp_path, Metadata({key: BytesStorageMetadata()}, None, {MetadataIndex(key): place}))
    with pytest.raises(CheckpointException, match="not plain data"):
        serialization.load_common_state_dict(tmp_path)
    assert not witness.exists()


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/../../b"])
def test_a_file_of_another_folder_is_refused(tmp_path: Path, name: str) -> None:
    index = MetadataIndex("weight", torch.Size([0]))
    _write(tmp_path, Metadata({}, None, {index: _StorageInfo(name, 0, 8)}))
    with pytest.raises(CheckpointError, match="no file of this folder"):
        read_metadata(tmp_path)


@pytest.mark.parametrize("data", [b"", b"no pickle", pickle.dumps([1, 2])])
def test_what_is_no_metadata_is_named(tmp_path: Path, data: bytes) -> None:
    (tmp_path / ".metadata").write_bytes(data)
    with pytest.raises(CheckpointError, match=r"\.metadata"):
        read_metadata(tmp_path)
