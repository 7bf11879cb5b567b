"""Small complete checkpoints without a learner, for tests of what is done with them."""

from dataclasses import replace
from pathlib import Path

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
