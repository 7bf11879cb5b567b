"""Which complete checkpoints of a run are kept, and the removal of the others."""

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from e3mega.checkpoint.manifest import read_manifest
from e3mega.plan.paths import MANIFEST, RunPaths
from e3mega.rollout.whole_file import write_whole
from e3mega.spec.schema.run import CheckpointOptions


@dataclass(frozen=True, slots=True)
class Stored:
    """A complete checkpoint, as the policy sees it. Example: ``Stored(7, "easy", 0.4, False)``."""

    version: int
    stage: str
    score: float | None
    is_held: bool
    """Something refers to it."""


def kept_versions(stored: Iterable[Stored], options: CheckpointOptions) -> set[int]:
    """The versions that the policy keeps.

    Always: the newest ``keep_last``, those that something holds, and the one that the newest
    stage began from, since a reference model or a repeated stage is made of it. On top: the first
    at or after each multiple of ``keep_every_steps``, and of each stage the ``keep_best`` with the
    highest score, of equal ones the older.
    """
    ordered = sorted(stored, key=lambda each: each.version)
    kept = {each.version for each in ordered[-options.keep_last :]}
    kept |= {each.version for each in ordered if each.is_held}
    earlier = [each.version for each in ordered if each.stage != ordered[-1].stage]
    kept |= set(earlier[-1:])
    if options.keep_every_steps is not None:
        every = options.keep_every_steps
        for multiple, group in groupby(ordered, key=lambda each: each.version // every):
            kept |= {next(group).version} if multiple else set()
    for stage in {each.stage for each in ordered}:
        scored = [each for each in ordered if each.stage == stage and each.score is not None]
        scored.sort(key=lambda each: each.score or 0.0, reverse=True)
        kept |= {each.version for each in scored[: options.keep_best]}
    return kept


def remove_others(paths: RunPaths, options: CheckpointOptions) -> None:
    """Remove the complete checkpoints that the policy does not keep, and unfinished older ones.

    Each loses its manifest first, so that a kill leaves an unfinished one. No save is under way.
    """
    folders = sorted(paths.every_checkpoint())
    complete = [folder for folder in folders if (folder / MANIFEST).exists()]
    if not complete:
        return
    stored = {folder: _stored(folder) for folder in complete}
    kept = kept_versions(stored.values(), options)
    for folder in folders:
        if folder not in stored and folder < complete[-1]:
            shutil.rmtree(folder)
        elif folder in stored and stored[folder].version not in kept:
            (folder / MANIFEST).unlink()
            shutil.rmtree(folder)


def hold(paths: RunPaths, version: int, holder: str) -> None:
    """Keep a checkpoint as long as ``holder``, a name, refers to it."""
    write_whole(paths.hold(paths.checkpoint(version), holder), b"")


def release(paths: RunPaths, version: int, holder: str) -> None:
    """Say that ``holder`` no longer refers to a checkpoint."""
    paths.hold(paths.checkpoint(version), holder).unlink(missing_ok=True)


def holders(folder: Path) -> list[str]:
    """Who refers to a checkpoint."""
    holds = RunPaths.holds(folder)
    return sorted(path.name for path in holds.iterdir()) if holds.exists() else []


def _stored(folder: Path) -> Stored:
    manifest = read_manifest(folder)
    return Stored(manifest.version, manifest.stage, manifest.score, bool(holders(folder)))
