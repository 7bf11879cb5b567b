"""Conversions between Hugging Face and Megatron lose nothing, for every family and grid."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from e3mega.checkpoint.compare import compare_tensors
from e3mega.checkpoint.convert import export_checkpoint, import_hf, model_of
from e3mega.checkpoint.grid import grid_of
from e3mega.checkpoint.hf import tensor_facts, write_hf_folder
from e3mega.checkpoint.manifest import Lineage, TrainedStage, verify
from e3mega.checkpoint.safe_reading import read_metadata
from e3mega.errors import CheckpointError
from e3mega.plan.paths import RunPaths
from e3mega.spec.schema.layout import LearnerLayout
from tests.family_cases import CASES, write_hf_family
from tests.warm_parent import WarmParent

JOBS = "tests.integration.conversion_jobs"
GRIDS = [(1, 1, 1), (2, 1, 1), (1, 2, 1), (2, 2, 1)]
EXPERT_GRIDS = [(1, 1, 2), (2, 1, 2), (1, 2, 2)]
PROMPTS = [[5, 9, 1, 33, 64, 2, 17], [69, 3, 3, 8, 40, 12, 61]]


def nothing(num_bytes: int) -> None:
    """No progress bar."""


@pytest.fixture(scope="module", params=list(CASES))
def family(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path, Any]:
    """The name of a case, its folder in fp32, and transformers' logits of PROMPTS."""
    folder = tmp_path_factory.mktemp("hf") / "model"
    model = write_hf_family(request.param, folder)
    with torch.no_grad():
        logits = model(torch.tensor(PROMPTS)).logits.numpy()
    return request.param, folder, logits


def grids_of(folder: Path) -> list[LearnerLayout]:
    """The grids of a family's test."""
    model = model_of(folder)
    grids = GRIDS if model.experts is None else [GRIDS[0], *EXPERT_GRIDS]
    return [grid_of(model, tp=tp, pp=pp, ep=ep) for tp, pp, ep in grids]


def test_every_grid_gives_the_logits_and_the_folder_back(
    warm_parent: WarmParent, family: tuple[str, Path, Any], tmp_path: Path
) -> None:
    _, hf, wanted = family
    original = load_file(hf / "model.safetensors")
    for number, layout in enumerate(grids_of(hf)):
        checkpoint, back = tmp_path / f"megatron-{number}", tmp_path / f"back-{number}"
        import_hf(hf, checkpoint, layout, nothing)
        verify(checkpoint)
        assert compare_tensors(hf, checkpoint) > 30
        export_checkpoint(checkpoint, back, nothing)
        found = load_file(back / "model.safetensors")
        assert found.keys() == original.keys()
        for name, value in original.items():
            assert torch.equal(found[name].view(torch.int32), value.view(torch.int32)), name
    found = warm_parent.run(
        LearnerLayout(),
        f"{JOBS}:logits",
        hf=str(hf),
        checkpoint=str(tmp_path / "megatron-2"),
        prompts=PROMPTS,
    )[0]
    np.testing.assert_allclose(found, wanted, atol=1e-4, rtol=0)


def test_bfloat16_comes_back_bit_for_bit(family: tuple[str, Path, Any], tmp_path: Path) -> None:
    _, hf, _ = family
    half = tmp_path / "half"
    shutil.copytree(hf, half)
    original = {
        name: value.bfloat16() for name, value in load_file(hf / "model.safetensors").items()
    }
    save_file(original, half / "model.safetensors", metadata={"format": "pt"})
    layout = grids_of(half)[-1]
    import_hf(half, tmp_path / "megatron", layout, nothing)
    export_checkpoint(tmp_path / "megatron", tmp_path / "back", nothing)
    found = load_file(tmp_path / "back" / "model.safetensors")
    assert found.keys() == original.keys()
    for name, value in original.items():
        assert found[name].dtype is torch.bfloat16
        assert torch.equal(found[name].view(torch.int16), value.view(torch.int16)), name


def test_the_files_are_those_that_megatron_writes_on_that_grid(
    warm_parent: WarmParent, family: tuple[str, Path, Any], tmp_path: Path
) -> None:
    _, hf, _ = family
    layout = grids_of(hf)[-1]
    import_hf(hf, tmp_path / "ours", layout, nothing)
    warm_parent.run(
        layout,
        f"{JOBS}:save_again",
        hf=str(hf),
        checkpoint=str(tmp_path / "ours"),
        folder=str(tmp_path / "run"),
    )
    theirs = RunPaths(tmp_path / "run").checkpoint(1)
    assert compare_tensors(hf, tmp_path / "ours") == compare_exported(hf, theirs)
    ours_meta = read_metadata(RunPaths.sharded(tmp_path / "ours"))
    theirs_meta = read_metadata(RunPaths.sharded(theirs))
    places = {
        name: (entry.size, sorted((tuple(c.offsets), tuple(c.sizes)) for c in entry.chunks))
        for name, entry in theirs_meta.state_dict_metadata.items()
        if hasattr(entry, "chunks") and "optimizer." not in name
    }
    found = {
        name: (entry.size, sorted((tuple(c.offsets), tuple(c.sizes)) for c in entry.chunks))
        for name, entry in ours_meta.state_dict_metadata.items()
        if hasattr(entry, "chunks")
    }
    assert found == places


def compare_exported(hf: Path, checkpoint: Path) -> int:
    """The number of tensors of a checkpoint that Megatron wrote, each bit-equal to the folder's."""
    exported = checkpoint.parent / "exported"
    export_checkpoint(checkpoint, exported, nothing)
    found = load_file(exported / "model.safetensors")
    original = load_file(hf / "model.safetensors")
    assert all(torch.equal(original[name], found[name]) for name in original)
    return len(found)


def test_a_difference_of_one_bit_is_found(family: tuple[str, Path, Any], tmp_path: Path) -> None:
    name, hf, _ = family
    if name != "llama":
        return
    import_hf(hf, tmp_path / "megatron", LearnerLayout(), nothing)
    other = tmp_path / "other"
    shutil.copytree(hf, other)
    tensors = load_file(other / "model.safetensors")
    tensors["model.norm.weight"].view(torch.int32)[3] ^= 1
    save_file(tensors, other / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"model\.norm\.weight"):
        compare_tensors(other, tmp_path / "megatron")


def test_the_card_tells_the_lineage_and_nothing_is_overwritten(
    family: tuple[str, Path, Any], tmp_path: Path
) -> None:
    name, hf, _ = family
    if name != "llama":
        return
    with pytest.raises(CheckpointError, match="exists"):
        import_hf(hf, tmp_path, LearnerLayout(), nothing)
    import_hf(hf, tmp_path / "megatron", LearnerLayout(), nothing)
    with pytest.raises(CheckpointError, match="exists"):
        export_checkpoint(tmp_path / "megatron", tmp_path, nothing)
    _, is_tokenized = export_checkpoint(tmp_path / "megatron", tmp_path / "back", nothing)
    assert not is_tokenized
    assert json.loads((tmp_path / "back" / "config.json").read_text())["model_type"] == "llama"
    card = (tmp_path / "back" / "README.md").read_text()
    assert "# model" in card
    assert "which has not trained it" in card


def test_what_is_said_of_sampling_and_tokens_comes_back(
    family: tuple[str, Path, Any], tmp_path: Path
) -> None:
    """A chat model ends its turns with tokens that only its generation's configuration lists."""
    name, hf, _ = family
    if name != "llama":
        return
    described = tmp_path / "described"
    shutil.copytree(hf, described)
    generation = {"do_sample": True, "top_k": 20, "temperature": 0.6, "eos_token_id": [2, 0]}
    (described / "generation_config.json").write_text(json.dumps(generation))
    (described / "tokenizer.json").write_text('{"version": "1.0"}')
    import_hf(described, tmp_path / "megatron", LearnerLayout(), nothing)
    _, is_tokenized = export_checkpoint(tmp_path / "megatron", tmp_path / "back", nothing)
    assert is_tokenized
    for each in ("generation_config.json", "config.json", "tokenizer.json"):
        assert (tmp_path / "back" / each).read_text() == (described / each).read_text()
    tensors = load_file(hf / "model.safetensors")
    write_hf_folder(
        ((each.name, tensors[each.name]) for each in tensor_facts(model_of(hf))),
        tmp_path / "trained",
        model=model_of(hf),
        lineage=Lineage("run", 1, "test", "", (TrainedStage("easy", "ab", 3, {}, 0.9),)),
        description=described,
    )
    found = json.loads((tmp_path / "trained" / "generation_config.json").read_text())
    assert found == {"do_sample": True, "temperature": 0.9, "eos_token_id": [2, 0]}
