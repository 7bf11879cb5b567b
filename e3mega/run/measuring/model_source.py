"""Finds the model that a path names: a Hugging Face folder, a run, or a checkpoint."""

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path

from e3mega.checkpoint.manifest import newest_complete, read_manifest
from e3mega.errors import E3Error
from e3mega.generation.model_folder import ModelFolder, read_model_folder
from e3mega.plan.paths import MANIFEST, RunPaths
from e3mega.report.runs import number, read_run, text


@dataclass(frozen=True, slots=True)
class Trained:
    """What a run trained a model at last. Example: ``Trained("hard", 128)``."""

    stage: str
    budget_tokens: int


def model_at(path: Path, cache: Path) -> ModelFolder:
    """The model of a path; a checkpoint is converted once, into a folder of ``cache``.

    A run stands for its export, or, before it has one, for its newest complete checkpoint. Raises
    E3Error when the path is none of the three.
    """
    if (path / MANIFEST).exists():
        return _converted(path, cache)
    paths = RunPaths(path)
    if not paths.plan.exists() or paths.export.is_dir():
        return read_model_folder(path)
    newest = newest_complete(paths).folder
    if newest is None:
        raise E3Error(
            f"{path} is a run without an export or a complete checkpoint; let it go on, or name "
            "another folder"
        )
    return _converted(newest, cache)


def _converted(checkpoint: Path, cache: Path) -> ModelFolder:
    """The checkpoint as a Hugging Face folder, named by its manifest's content."""
    # It loads torch, which a measurement of another kind of folder never needs.
    from e3mega.checkpoint.convert import export_checkpoint

    manifest = (checkpoint / MANIFEST).read_bytes()
    target = cache / "models" / hashlib.sha256(manifest).hexdigest()[:32]
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        export_checkpoint(checkpoint, target, lambda _: None)
    return read_model_folder(target)


def trained_at(path: Path) -> Trained | None:
    """Stage and budget of the last RL step behind the model, if its run is known and had one."""
    is_checkpoint = (path / MANIFEST).exists()
    version = read_manifest(path).version if is_checkpoint else math.inf
    for folder in (path, *path.resolve().parents[:2]):
        if RunPaths(folder).metrics("loop").exists():
            steps = [
                (text(event, "stage"), number(event, "budget_tokens"))
                for event in read_run(folder).of("step")
                if text(event, "mode") == "rl" and number(event, "step") <= version
            ]
            known = [(stage, budget) for stage, budget in steps if math.isfinite(budget)]
            return Trained(known[-1][0], int(known[-1][1])) if known else None
    return None
