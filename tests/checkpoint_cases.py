"""Small complete checkpoints without a learner, for tests of what is done with them."""

from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed.checkpoint as torch_checkpoint
from torch.distributed.checkpoint.metadata import TensorStorageMetadata

from e3mega.checkpoint.manifest import Lineage, Manifest, file_facts, write_manifest
from e3mega.plan.paths import RunPaths
from e3mega.spec.schema.layout import LearnerLayout
from tests.learner_cases import tiny_model


def manifest_of(version: int, *, stage: str = "easy", score: float | None = None) -> Manifest:
    """The manifest of a checkpoint that has no files yet."""
    return Manifest(
        version=version,
        stage=stage,
        model=tiny_model(),
        layout=LearnerLayout(),
        lineage=Lineage("tiny", 1, "test", "0" * 64, ()),
        has_optimizer=True,
        score=score,
        files={},
    )


def write_checkpoint(
    paths: RunPaths, version: int, *, stage: str = "easy", score: float | None = None
) -> Path:
    """A complete checkpoint of two files that hold no weights."""
    folder = paths.checkpoint(version)
    RunPaths.sharded(folder).mkdir(parents=True)
    (RunPaths.sharded(folder) / "__0_0.distcp").write_bytes(bytes(range(256)) * 40)
    paths.loop_state(folder).write_text("{}")
    manifest = manifest_of(version, stage=stage, score=score)
    write_manifest(folder, replace(manifest, files=file_facts(folder)))
    return folder


def saved_tensors(folder: Path) -> dict[str, torch.Tensor]:
    """Every tensor of a checkpoint, whole, as torch's own reader puts it together; the moments
    and the counts of steps are among them."""
    reader = torch_checkpoint.FileSystemReader(RunPaths.sharded(folder))
    entries = reader.read_metadata().state_dict_metadata
    found = {
        name: torch.zeros(entry.size, dtype=entry.properties.dtype)
        for name, entry in entries.items()
        if isinstance(entry, TensorStorageMetadata)
    }
    torch_checkpoint.load(found, storage_reader=reader, no_dist=True)
    return found
