"""Manifests: a checkpoint is complete when its manifest exists and every checksum holds."""

import hashlib
import json
import os
import shutil
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from e3mega.errors import CheckpointError
from e3mega.plan.paths import MANIFEST
from e3mega.rollout.whole_file import write_whole

_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class FileFacts:
    """Size and digest of one file. Example: ``FileFacts(1024, "9f86d0…")``."""

    num_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a checkpoint is, and its files by their path relative to its folder.

    Example: ``Manifest(310, "warmup", "ab12…", "qwen3", 2, 1, 1, {})``.
    """

    version: int
    """Optimizer steps that the weights contain."""
    stage: str
    run_fingerprint: str
    family: str
    tp: int
    pp: int
    dp: int
    files: dict[str, FileFacts]


_ADAPTER = TypeAdapter(Manifest)


def file_facts(folder: Path) -> dict[str, FileFacts]:
    """Size and digest of every file below the folder but the manifest, in order of their paths."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): FileFacts(path.stat().st_size, _sha256(path))
        for path in paths
        if path.name != MANIFEST
    }


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Make the checkpoint complete: its files reach the disk, then the manifest is renamed in."""
    for name in manifest.files:
        _sync(folder / name)
    _sync(folder)
    write_whole(folder / MANIFEST, (json.dumps(asdict(manifest), indent=2) + "\n").encode())
    _sync(folder)


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a complete checkpoint; raises CheckpointError when there is none."""
    path = folder / MANIFEST
    if not path.exists():
        raise CheckpointError(f"{folder}: no {MANIFEST}: the checkpoint was never finished")
    try:
        return _ADAPTER.validate_json(path.read_bytes())
    except ValidationError as error:
        raise CheckpointError(f"{path}: not a manifest of this version: {error}") from error


def verify(folder: Path) -> Manifest:
    """Check every file; raises CheckpointError naming the first that is missing or damaged."""
    manifest = read_manifest(folder)
    for name, facts in manifest.files.items():
        path = folder / name
        if not path.is_file():
            raise CheckpointError(f"{path}: missing, the manifest lists it")
        num_bytes = path.stat().st_size
        if num_bytes != facts.num_bytes:
            raise CheckpointError(f"{path}: {num_bytes} bytes, the manifest says {facts.num_bytes}")
        if _sha256(path) != facts.sha256:
            raise CheckpointError(f"{path}: its SHA-256 is not the one in the manifest")
    return manifest


def newest_complete(checkpoints: Path) -> Path | None:
    """The newest checkpoint whose every checksum holds, or None; says which ones it passes over."""
    if not checkpoints.exists():
        return None
    for folder in sorted((path for path in checkpoints.iterdir() if path.is_dir()), reverse=True):
        try:
            verify(folder)
        except CheckpointError as error:
            print(f"checkpoint passed over: {error}", file=sys.stderr)
        else:
            return folder
    return None


def remove_old(checkpoints: Path, *, keep_last: int) -> None:
    """Remove all complete checkpoints but the last ``keep_last``; each loses its manifest first."""
    complete = sorted(path.parent for path in checkpoints.glob(f"*/{MANIFEST}"))
    for folder in complete[: max(0, len(complete) - keep_last)]:
        (folder / MANIFEST).unlink()
        shutil.rmtree(folder)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
