"""Which checkpoints stay."""

from pathlib import Path

from e3mega.checkpoint.retention import Stored, hold, kept_versions, release, remove_others
from e3mega.plan.paths import MANIFEST, RunPaths
from e3mega.spec.schema.run import CheckpointOptions
from tests.checkpoint_cases import write_checkpoint


def _kept(stored: list[tuple[int, str, float | None]], **options: int) -> list[int]:
    records = [Stored(version, stage, score, False) for version, stage, score in stored]
    return sorted(kept_versions(records, CheckpointOptions.model_validate(options)))


def _plain(*versions: int, stage: str = "easy") -> list[tuple[int, str, float | None]]:
    return [(version, stage, None) for version in versions]


def test_the_newest_are_kept() -> None:
    assert _kept(_plain(3, 1, 2, 4), keep_last=2) == [3, 4]


def test_the_checkpoint_that_the_newest_stage_began_from_is_kept() -> None:
    stored = [*_plain(10, 20, stage="warmup"), *_plain(30, 40, 50)]
    assert _kept(stored, keep_last=1) == [20, 50]
    assert _kept(_plain(10, 20, stage="warmup"), keep_last=1) == [20]


def test_the_first_at_or_after_each_multiple_is_kept() -> None:
    stored = _plain(4, 8, 12, 16, 20, 24, 28, 32)
    assert _kept(stored, keep_last=1, keep_every_steps=10) == [12, 20, 32]
    later = _plain(12, 20, 32, 36, 40)
    assert _kept(later, keep_last=1, keep_every_steps=10) == [12, 20, 32, 40]


def test_the_best_of_each_stage_are_kept_and_no_score_is_no_best() -> None:
    stored = [
        *_plain(5, stage="warmup"),
        *((10, "easy", 0.3), (20, "easy", 0.5), (30, "easy", 0.5), (40, "easy", 0.1)),
        *((50, "hard", 0.2), (60, "hard", 0.1), (70, "hard", 0.0)),
    ]
    assert _kept(stored, keep_last=1, keep_best=1) == [20, 40, 50, 70]
    assert _kept(stored, keep_last=1, keep_best=2) == [20, 30, 40, 50, 60, 70]


def test_what_is_held_stays_until_it_is_released(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path)
    for version in (1, 2, 3):
        write_checkpoint(paths, version)
    hold(paths, 1, "another-run")
    hold(paths, 1, "a-report")
    options = CheckpointOptions(keep_last=1)
    remove_others(paths, options)
    assert sorted(path.name for path in paths.every_checkpoint()) == ["step_000001", "step_000003"]
    release(paths, 1, "another-run")
    remove_others(paths, options)
    assert paths.checkpoint(1).exists()
    release(paths, 1, "a-report")
    remove_others(paths, options)
    assert [path.name for path in paths.every_checkpoint()] == ["step_000003"]


def test_leftovers_older_than_the_newest_go_and_a_newer_one_stays(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path)
    for version in (1, 2, 3):
        write_checkpoint(paths, version)
    for version in (1, 3):
        (paths.checkpoint(version) / MANIFEST).unlink()
    remove_others(paths, CheckpointOptions())
    assert sorted(path.name for path in paths.every_checkpoint()) == ["step_000002", "step_000003"]
