"""Describes checkpoints for a person: what they are, where they come from, whether they hold."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from e3mega.checkpoint.convert import model_of
from e3mega.checkpoint.global_tensors import GlobalTensors
from e3mega.checkpoint.manifest import Manifest, read_manifest, verify
from e3mega.checkpoint.retention import holders
from e3mega.checkpoint.safetensors_file import SafetensorsReader
from e3mega.errors import CheckpointError
from e3mega.families.geometry import ModelOptions
from e3mega.plan.paths import MANIFEST, RunPaths
from e3mega.plan.topology import num_learner_ranks

_OPTIMIZER = "optimizer."


def describe(path: Path, *, verifies: bool, lists_tensors: bool) -> Iterator[str]:
    """The lines that describe a checkpoint, a run's checkpoints, or a Hugging Face folder.

    ``verifies`` checks every checksum of a checkpoint. Raises CheckpointError when the path is
    none of them, or when a checkpoint itself, not one of a run's, is damaged.
    """
    if (path / MANIFEST).exists():
        yield from _checkpoint(path, verifies=verifies, lists_tensors=lists_tensors)
    elif RunPaths(path).every_checkpoint():
        for folder in sorted(RunPaths(path).every_checkpoint()):
            yield _one_line(folder, verifies=verifies)
    elif (path / "config.json").exists():
        yield from _hf_folder(path, lists_tensors=lists_tensors)
    else:
        raise CheckpointError(
            f"{path} is no complete checkpoint ({MANIFEST}), no run with checkpoints/ and no "
            "Hugging Face folder (config.json)"
        )


def _one_line(folder: Path, *, verifies: bool) -> str:
    """A checkpoint of a run in one line."""
    try:
        manifest = verify(folder) if verifies else read_manifest(folder)
    except CheckpointError as error:
        return f"{folder.name}: cannot be used: {error}"
    facts = [f"stage {manifest.stage}", f"{_num_bytes(manifest):,} bytes"]
    if manifest.score is not None:
        facts.append(f"mean reward {manifest.score:.3f}")
    facts += [f"held by {holder}" for holder in holders(folder)]
    if verifies:
        facts.append("every checksum holds")
    return f"{folder.name}: {', '.join(facts)}"


def _checkpoint(path: Path, *, verifies: bool, lists_tensors: bool) -> Iterator[str]:
    manifest = verify(path) if verifies else read_manifest(path)
    lineage, layout = manifest.lineage, manifest.layout
    yield f"{path}: a checkpoint of {lineage.name} after {manifest.version} steps"
    yield from _model(manifest.model)
    yield (
        f"written by {num_learner_ranks(layout)} ranks: tp {layout.tp}, cp {layout.cp}, "
        f"dp {layout.dp}, pp {layout.pp}, ep {layout.ep}; any grid reads it"
    )
    yield "with its optimizer" if manifest.has_optimizer else "weights only, no optimizer"
    if lineage.run_fingerprint:
        yield f"run fingerprint {lineage.run_fingerprint}, seed {lineage.seed}"
    for stage in lineage.stages:
        yield (
            f"stage {stage.name}: {stage.num_steps} steps at temperature {stage.temperature}, "
            f"fingerprint {stage.fingerprint}"
        )
    if manifest.score is not None:
        yield f"mean reward since the checkpoint before: {manifest.score:.3f}"
    yield f"{len(manifest.files)} files, {_num_bytes(manifest):,} bytes"
    if verifies:
        yield "every checksum holds"
    tensors = GlobalTensors(RunPaths.sharded(path), manifest.model)
    keys = tensors.keys()
    weights = [key for key in keys if _OPTIMIZER not in key]
    yield f"{len(weights)} tensors of weights, {len(keys) - len(weights)} of the optimizer"
    for key in keys if lists_tensors else ():
        entry = tensors.entry(key)
        dtype = str(entry.properties.dtype).removeprefix("torch.")
        yield f"  {key}  {dtype} {list(entry.size)} in {len(entry.chunks)} chunks"


def _hf_folder(path: Path, *, lists_tensors: bool) -> Iterator[str]:
    yield f"{path}: a Hugging Face folder"
    yield from _model(model_of(path))
    reader = SafetensorsReader(path)
    facts = reader.facts()
    dtypes = Counter(str(each.dtype).removeprefix("torch.") for each in facts.values())
    shown = ", ".join(f"{count} of {dtype}" for dtype, count in dtypes.items())
    yield f"{len(facts)} tensors ({shown}), {sum(f.num_bytes for f in facts.values()):,} bytes"
    for name, each in facts.items() if lists_tensors else ():
        yield f"  {name}  {str(each.dtype).removeprefix('torch.')} {list(each.shape)}"


def _model(model: ModelOptions) -> Iterator[str]:
    experts = "" if model.experts is None else f", {model.experts.num_experts} experts"
    tied = "tied" if model.ties_embeddings else "untied"
    yield (
        f"model: {model.family.value}, {model.num_layers} layers x {model.hidden_size} wide, "
        f"{model.num_heads} heads on {model.num_kv_heads}, vocabulary {model.vocab_size} ({tied})"
        f"{experts}, {model.precision.value}"
    )


def _num_bytes(manifest: Manifest) -> int:
    return sum(facts.num_bytes for facts in manifest.files.values())
