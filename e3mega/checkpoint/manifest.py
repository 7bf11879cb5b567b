"""Manifests: a checkpoint is complete when its manifest exists and every checksum holds."""

import hashlib
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from e3mega.errors import CheckpointError
from e3mega.families.geometry import ModelOptions
from e3mega.plan.paths import MANIFEST, RunPaths
from e3mega.rollout.whole_file import write_whole
from e3mega.spec.schema.layout import LearnerLayout

_NUM_THREADS = 4
"""Digests release the interpreter's lock; more threads than this wait for the disk."""


@dataclass(frozen=True, slots=True)
class FileFacts:
    """Size and digest of one file. Example: ``FileFacts(1024, "9f86d0…")``."""

    num_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class TrainedStage:
    """What one stage gave to the weights.

    Example: ``TrainedStage("easy", "ab12…", 40, {}, 1.0)``.
    """

    name: str
    fingerprint: str
    num_steps: int
    """Optimizer steps taken in it."""
    data: dict[str, object]
    """Its task section: the data and the slice of it."""
    temperature: float
    """What its completions were sampled at and its log-probabilities computed at: those of another
    program agree at the same one only."""


@dataclass(frozen=True, slots=True)
class Lineage:
    """Where weights come from. Example: ``Lineage("quickstart", 1, "0.1.0", "cd34…", ())``."""

    name: str
    """The run's name, or the folder of Hugging Face weights that were imported."""
    seed: int
    e3mega_version: str
    run_fingerprint: str
    """Empty for imported weights."""
    stages: tuple[TrainedStage, ...]
    """The stages that have trained, in order."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a checkpoint is, and its files by their path relative to its folder.

    Example: ``Manifest(310, "warmup", model, layout, lineage, True, None, {})``.
    """

    version: int
    """Optimizer steps that the weights contain."""
    stage: str
    """The stage that took the last of them; empty for imported weights."""
    model: ModelOptions
    layout: LearnerLayout
    """The grid that wrote it; any other can read it."""
    lineage: Lineage
    has_optimizer: bool
    score: float | None
    """Mean reward of the rollouts trained on since the checkpoint before; None without rewards."""
    files: dict[str, FileFacts]


_ADAPTER = TypeAdapter(Manifest)


def file_facts(
    folder: Path, names: Iterable[str] | None = None, *, num_threads: int = _NUM_THREADS
) -> dict[str, FileFacts]:
    """Size and digest of the named files of a folder, or of all but the manifest, by path."""
    if names is None:
        paths = (path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
        names = [str(path.relative_to(folder)) for path in paths]
    ordered = sorted(names)
    with ThreadPoolExecutor(num_threads) as pool:
        digests = pool.map(lambda name: sha256_of(folder / name), ordered)
        return {
            name: FileFacts((folder / name).stat().st_size, digest)
            for name, digest in zip(ordered, digests, strict=True)
        }


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Make the checkpoint complete: its files reach the disk, then the manifest is renamed in."""
    for name in manifest.files:
        _sync(folder / name)
    for parent in {(folder / name).parent for name in manifest.files}:
        _sync(parent)
    write_whole(folder / MANIFEST, _ADAPTER.dump_json(manifest, indent=2) + b"\n")
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


def verify(folder: Path, *, num_threads: int = _NUM_THREADS) -> Manifest:
    """Check every file; raises CheckpointError naming the first that is missing or damaged."""
    manifest = read_manifest(folder)
    for name, facts in manifest.files.items():
        path = folder / name
        if not path.is_file():
            raise CheckpointError(f"{path}: missing, the manifest lists it")
        num_bytes = path.stat().st_size
        if num_bytes != facts.num_bytes:
            raise CheckpointError(f"{path}: {num_bytes} bytes, the manifest says {facts.num_bytes}")
    for name, found in file_facts(folder, manifest.files, num_threads=num_threads).items():
        if found.sha256 != manifest.files[name].sha256:
            raise CheckpointError(f"{folder / name}: its SHA-256 is not the one in the manifest")
    return manifest


@dataclass(frozen=True, slots=True)
class PassedOver:
    """A checkpoint that cannot be used. Example: ``PassedOver("step_000310", "no manifest…")``."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Newest:
    """The checkpoint to continue from. Example: ``Newest(None, ())`` for a new run."""

    folder: Path | None
    passed_over: tuple[PassedOver, ...]
    """Newer ones that are unfinished or damaged, the newest first."""


def newest_complete(paths: RunPaths) -> Newest:
    """The newest checkpoint of a run whose every checksum holds, and those passed over for it."""
    passed_over: list[PassedOver] = []
    for folder in sorted(paths.every_checkpoint(), reverse=True):
        try:
            verify(folder)
        except CheckpointError as error:
            passed_over.append(PassedOver(folder.name, str(error)))
        else:
            return Newest(folder, tuple(passed_over))
    return Newest(None, tuple(passed_over))


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
