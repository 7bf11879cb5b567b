"""A checkpoint counts only when it is complete and every checksum holds."""

import hashlib
from pathlib import Path

import pytest

from e3mega.checkpoint.manifest import newest_complete, read_manifest, verify
from e3mega.errors import CheckpointError
from e3mega.loop.state import LoopState, state_to_json
from e3mega.loop.wiring import first_state
from e3mega.metrics import MetricsWriter, read_metrics
from e3mega.plan.paths import MANIFEST, RunPaths
from e3mega.run.views.display import event_line
from tests.checkpoint_cases import write_checkpoint


def test_a_manifest_comes_back_as_it_was_written(tmp_path: Path) -> None:
    folder = write_checkpoint(RunPaths(tmp_path), 7, stage="hard", score=0.25)
    manifest = verify(folder)
    assert (manifest.version, manifest.stage, manifest.score) == (7, "hard", 0.25)
    assert list(manifest.files) == ["loop_state.json", "sharded/__0_0.distcp"]
    wanted = hashlib.sha256(bytes(range(256)) * 40).hexdigest()
    assert manifest.files["sharded/__0_0.distcp"].sha256 == wanted


def test_without_its_manifest_a_checkpoint_is_passed_over(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path)
    old, new = write_checkpoint(paths, 1), write_checkpoint(paths, 2)
    (new / MANIFEST).unlink()
    found = newest_complete(paths)
    assert found.folder == old
    assert [each.name for each in found.passed_over] == ["step_000002"]
    assert "never finished" in found.passed_over[0].reason


@pytest.mark.parametrize("damage", ["flipped bit", "cut", "gone", "manifest", "other version"])
def test_a_damaged_checkpoint_is_refused_and_the_one_before_is_used(
    tmp_path: Path, damage: str
) -> None:
    paths = RunPaths(tmp_path)
    old, new = write_checkpoint(paths, 1), write_checkpoint(paths, 2)
    file = RunPaths.sharded(new) / "__0_0.distcp"
    data = file.read_bytes()
    if damage == "flipped bit":
        file.write_bytes(bytes([data[0] ^ 1]) + data[1:])
    elif damage == "cut":
        file.write_bytes(data[:-1])
    elif damage == "gone":
        file.unlink()
    elif damage == "manifest":
        (new / MANIFEST).write_text('{"version": 2')
    else:
        (new / MANIFEST).write_text('{"version": 2, "files": {}}')
    with pytest.raises(CheckpointError, match=MANIFEST if "man" in damage else "step_000002"):
        verify(new)
    found = newest_complete(paths)
    assert found.folder == old
    assert str(new) in found.passed_over[0].reason


def test_the_loop_says_which_checkpoint_it_passed_over(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path)
    old = write_checkpoint(paths, 1)
    paths.loop_state(old).write_text(state_to_json(LoopState(version=1)))
    whole = read_manifest(old)
    size = len(paths.loop_state(old).read_bytes())
    text = (old / MANIFEST).read_text()
    digest = hashlib.sha256(paths.loop_state(old).read_bytes()).hexdigest()
    facts = whole.files["loop_state.json"]
    text = text.replace(facts.sha256, digest).replace('"num_bytes": 2,', f'"num_bytes": {size},')
    (old / MANIFEST).write_text(text)
    new = write_checkpoint(paths, 2)
    (RunPaths.sharded(new) / "__0_0.distcp").write_bytes(b"")
    metrics = MetricsWriter(paths.metrics("loop"))
    assert first_state(paths, metrics).version == 1
    resumed, passed_over = read_metrics(paths.metrics("loop"))
    assert resumed["checkpoint"] == "step_000001"
    assert passed_over["checkpoint"] == "step_000002"
    line = event_line(passed_over)
    assert "step_000002 passed over" in line
    assert "0 bytes, the manifest says 10240" in line
