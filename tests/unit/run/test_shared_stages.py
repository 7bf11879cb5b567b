"""A run that begins behind stages that another run trained, against fakes of learner and tier."""

import errno
import os
from dataclasses import replace
from pathlib import Path

import pytest

from e3mega.checkpoint.manifest import (
    Lineage,
    TrainedStage,
    file_facts,
    newest_complete,
    read_manifest,
    write_manifest,
)
from e3mega.checkpoint.retention import holders
from e3mega.errors import E3Error
from e3mega.loop.state import LoopState, read_state
from e3mega.plan.paths import RunPaths
from e3mega.plan.planfile import Plan
from e3mega.report.runs import read_run
from e3mega.rollout.ledger import Ledger
from e3mega.rollout.shared import read_shared
from e3mega.run.creation import create_folder
from e3mega.run.views.progress import Progress
from tests.checkpoint_cases import manifest_of
from tests.unit.loop.test_controller import batches, events, make_jobs, run, small_plan

HARDER = "curriculum.stages.hard.exit.steps=2"
"""Changes the last stage alone."""


def finished(plan: Plan, run_dir: Path) -> tuple[RunPaths, LoopState]:
    """A run of the fakes to its end, with complete checkpoints at the ends of its stages."""
    paths = RunPaths(run_dir)
    run_dir.mkdir(parents=True)
    create_folder(plan, "seed: 1\n", paths)
    return paths, trained(plan, paths, LoopState())


def trained(plan: Plan, paths: RunPaths, state: LoopState) -> LoopState:
    """The end of a run from a state, its checkpoints made complete."""
    jobs, learner = make_jobs(plan, paths.run_dir)
    learner.version = state.version
    jobs.metrics.write("run_started", name=plan.name, seed=plan.seed, attempt=0)
    ended = run(jobs, state)
    for folder in paths.every_checkpoint():
        place = read_state(paths.loop_state(folder))
        stages = tuple(
            TrainedStage(stage.name, stage.fingerprint, 1, {}, 1.0)
            for stage in plan.stages[: place.stage_index + 1]
        )
        lineage = Lineage(plan.name, plan.seed, "0", plan.run_fingerprint, stages)
        name = plan.stages[place.stage_index].name
        manifest = replace(manifest_of(place.version, stage=name), lineage=lineage)
        (folder / "weights").write_text(str(place.version))
        write_manifest(folder, replace(manifest, files=file_facts(folder)))
    return ended


def begun(plan: Plan, run_dir: Path, source: RunPaths) -> tuple[RunPaths, LoopState]:
    """A new run behind the stages it shares, and where its loop begins."""
    paths = RunPaths(run_dir)
    run_dir.mkdir(parents=True)
    create_folder(plan, "seed: 1\n", paths, source=source)
    folder = newest_complete(paths).folder
    assert folder is not None
    return paths, read_state(paths.loop_state(folder))


def test_a_run_goes_on_from_shared_stages_as_if_it_had_trained_them(tmp_path: Path) -> None:
    source, _ = finished(small_plan(), tmp_path / "source")
    plan = small_plan("name=harder", HARDER)
    _, straight = finished(plan, tmp_path / "whole")
    paths, start = begun(plan, tmp_path / "shared", source)
    assert (start.stage_index, start.stage_step) == (2, 0)
    ended = trained(plan, paths, start)
    hard = {name: data for name, data in batches(tmp_path / "whole").items() if "/hard/" in name}
    assert hard
    assert batches(tmp_path / "shared") == hard
    assert ended.version == straight.version
    assert sum(ended.shared.values(), ended.ledger) == straight.ledger, "each token counted once"
    assert set(ended.ledgers) == {"hard"}
    assert set(ended.shared) == {"warmup", "easy"}
    assert not holders(source.checkpoint(start.version)), "the checkpoint is its own now"
    for kind, field in (("evaluation", "label"), ("step", "step"), ("stage_finished", "stage")):
        found = [event[field] for event in events(tmp_path / "shared", kind)]
        assert found == [event[field] for event in events(tmp_path / "whole", kind)], kind


def test_what_was_shared_is_on_record(tmp_path: Path) -> None:
    source, _ = finished(small_plan(), tmp_path / "source")
    plan = small_plan("name=harder", HARDER)
    paths, start = begun(plan, tmp_path / "shared", source)
    shared = read_shared(paths)
    assert shared is not None
    assert (shared.name, shared.stages) == ("quickstart-small", ("warmup", "easy"))
    assert shared.run_dir == str(source.run_dir)
    assert shared.ledgers == start.shared
    assert shared.ledgers["easy"].evaluated.tokens > 0, "its measurement counts"
    manifest = read_manifest(paths.checkpoint(start.version))
    assert manifest.lineage.name == "harder"
    assert manifest.lineage.run_fingerprint == plan.run_fingerprint
    assert read_shared(source) is None
    trained(plan, paths, start)
    ledger = events(tmp_path / "shared", "ledger")[-1]
    assert set(ledger["shared"]) == {"warmup", "easy"}  # pyright: ignore[reportArgumentType] -- a map
    marked = [e for e in events(tmp_path / "shared", "step") if "shared_from" in e]
    assert {event["stage"] for event in marked} == {"warmup", "easy"}
    own = read_run(paths.run_dir)
    assert own.seconds < read_run(source.run_dir).seconds + 60
    progress = Progress(plan)
    for kind in ("stage_started", "step", "stage_finished"):
        for event in own.of(kind):
            progress.observe(event)
    assert progress.stages["easy"].is_finished


def test_shared_stages_may_have_other_names(tmp_path: Path) -> None:
    source, _ = finished(small_plan(), tmp_path / "source")
    plan = small_plan(HARDER)
    first = replace(plan.stages[0], name="first")
    renamed = replace(plan, stages=(first, *plan.stages[1:]))
    paths, start = begun(renamed, tmp_path / "shared", source)
    assert set(start.shared) == {"first", "easy"}
    assert {str(e["stage"]) for e in events(paths.run_dir, "step")} == {"first", "easy"}


def test_a_run_behind_shared_stages_is_shared_in_turn(tmp_path: Path) -> None:
    source, _ = finished(small_plan(), tmp_path / "source")
    plan = small_plan("name=harder", HARDER)
    paths, start = begun(plan, tmp_path / "shared", source)
    ended = trained(plan, paths, start)
    longer = small_plan("name=longer", HARDER, "curriculum.order=[warmup, easy, hard]")
    again, state = begun(longer, tmp_path / "again", paths)
    assert state.is_stage_finished, "the last stage is measured by every run itself"
    assert sum(state.shared.values(), Ledger()).trained == (
        sum(ended.shared.values(), ended.ledger).trained
    )
    assert trained(longer, again, state).version == ended.version


def test_runs_that_share_nothing_say_what_differs(tmp_path: Path) -> None:
    source, _ = finished(small_plan(), tmp_path / "source")
    plan = small_plan("seed=2", "curriculum.stages.warmup.optimizer.learning_rate=0.5")
    with pytest.raises(
        E3Error, match=r"optimizer\.learning_rate: 0\.5 here, .* there; seed: 2 here, 1 there"
    ):
        begun(plan, tmp_path / "other", source)
    with pytest.raises(E3Error, match="holds no run"):
        begun(plan, tmp_path / "none", RunPaths(tmp_path))


def test_a_run_that_did_not_come_so_far_cannot_be_shared(tmp_path: Path) -> None:
    source = RunPaths(tmp_path / "source")
    source.run_dir.mkdir()
    create_folder(small_plan(), "seed: 1\n", source)
    with pytest.raises(E3Error, match="no checkpoint at the end of stage hard"):
        begun(small_plan(), tmp_path / "other", source)


def test_a_stage_that_was_not_measured_is_measured_by_the_run(tmp_path: Path) -> None:
    source, _ = finished(small_plan(), tmp_path / "source")
    lines = source.metrics("loop").read_text().splitlines(keepends=True)
    cut = next(i for i, line in enumerate(lines) if '"stage_finished", "stage": "easy"' in line)
    source.metrics("loop").write_text("".join(lines[: cut + 1]))
    plan = small_plan("name=harder", HARDER)
    whole, straight = finished(plan, tmp_path / "whole")
    paths, start = begun(plan, tmp_path / "shared", source)
    assert (start.stage_index, start.is_stage_finished) == (1, True)
    ended = trained(plan, paths, start)
    assert sum(ended.shared.values(), ended.ledger) == straight.ledger
    assert [e["label"] for e in events(paths.run_dir, "evaluation")] == [
        e["label"] for e in events(whole.run_dir, "evaluation")
    ]


def test_caps_count_what_is_shared(tmp_path: Path) -> None:
    source, _ = finished(small_plan(), tmp_path / "source")
    plan = small_plan("name=harder", HARDER, "curriculum.caps.max_trained_tokens=10000")
    paths, start = begun(plan, tmp_path / "shared", source)
    with pytest.raises(E3Error, match=r"curriculum\.caps\.max_trained_tokens"):
        trained(plan, paths, start)


def test_where_files_cannot_be_linked_they_are_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, _ = finished(small_plan(), tmp_path / "source")

    def refuse(*_: object) -> None:
        raise OSError(errno.EXDEV, "another file system")

    monkeypatch.setattr(os, "link", refuse)
    paths, start = begun(small_plan("name=harder", HARDER), tmp_path / "shared", source)
    assert (paths.checkpoint(start.version) / "weights").stat().st_nlink == 1
