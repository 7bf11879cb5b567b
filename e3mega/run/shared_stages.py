"""Starts a run behind the stages that it shares with another run, from that run's checkpoint."""

import errno
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from e3mega.checkpoint.manifest import (
    Lineage,
    Manifest,
    file_facts,
    verify,
    write_manifest,
)
from e3mega.checkpoint.retention import hold, release
from e3mega.errors import E3Error
from e3mega.loop.state import LoopState, read_state, state_to_json
from e3mega.metrics import Json
from e3mega.plan.paths import MANIFEST, RunPaths
from e3mega.plan.planfile import Plan, read_plan
from e3mega.plan.shared import first_differences, num_shared_stages
from e3mega.report.runs import IDENTITY, Event, Run, number, read_run, text
from e3mega.rollout.ledger import Ledger, read_ledger
from e3mega.rollout.shared import SharedStages, write_shared
from e3mega.rollout.whole_file import write_whole
from e3mega.run.folder import shown

_NOT_SHARED = frozenset({"run_started", "run_finished", "ledger"})
"""Events that are a run's own, whatever it shares."""
_NUM_DIFFERENCES = 4
_NO_LINK = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP)
"""Where a file cannot be linked, it is copied."""


@dataclass(frozen=True, slots=True)
class _End:
    """A checkpoint at the end of a shared stage."""

    folder: Path
    state: LoopState


def share_stages(plan: Plan, paths: RunPaths, source: RunPaths) -> SharedStages:
    """Give a new run the checkpoint, the counts and the measurements of the stages it shares.

    The checkpoint is taken at the end of the last stage that both runs have in common and that
    ``source`` has one of. The run goes on from it as ``source`` did; files are linked where the
    file system can. May be repeated after a kill. Raises E3Error, saying what differs, when the
    runs share no stage, and CheckpointError when the checkpoint is damaged.
    """
    theirs = _plan_of(source)
    count = _count_or_refuse(plan, theirs, source)
    end = _last_end(source, count)
    if end is None:
        raise E3Error(
            f"{shown(source.run_dir)} has no checkpoint at the end of stage "
            f"{theirs.stages[count - 1].name}: it did not come so far, or it kept none; hold one "
            "with checkpoint.keep_best or keep_every_steps, or start the run without --from"
        )
    run, last = read_run(source.run_dir), end.state.stage_index
    names = {theirs.stages[i].name: plan.stages[i].name for i in range(last + 1)}
    is_measured = _went_on(run, last) and last + 1 < len(plan.stages)
    spent = _spent(run) if is_measured else _sums(end.state.shared, end.state.ledgers)
    ledgers = {names[stage]: each for stage, each in spent.items() if stage in names}
    state = replace(end.state, ledgers={}, shared=ledgers)
    state = state.next_stage() if is_measured else state
    holder = paths.run_dir.name
    hold(source, end.state.version, holder)
    try:
        _take_checkpoint(plan, paths, end, state, source)
    finally:
        release(source, end.state.version, holder)
    events = _events(run, theirs.stages[last].name, is_measured=is_measured)
    lines = (json.dumps(_as_shared(event, names, run.name)) for event in events)
    write_whole(paths.metrics("loop"), "".join(f"{line}\n" for line in lines).encode())
    shared = SharedStages(
        run_dir=str(source.run_dir.resolve()),
        name=theirs.name,
        run_fingerprint=theirs.run_fingerprint,
        version=end.state.version,
        stages=tuple(names.values()),
        ledgers=ledgers,
    )
    write_shared(paths, shared)
    return shared


def _plan_of(source: RunPaths) -> Plan:
    if not source.plan.exists():
        raise E3Error(
            f"{shown(source.run_dir)} holds no run ({source.plan.name} is missing); name the "
            "folder of a run whose stages are to be shared"
        )
    return read_plan(source.plan)


def _count_or_refuse(plan: Plan, theirs: Plan, source: RunPaths) -> int:
    count = num_shared_stages(plan, theirs)
    if plan.e3mega_version != theirs.e3mega_version:
        raise E3Error(
            f"{shown(source.run_dir)} was made by e3mega {theirs.e3mega_version}, this is "
            f"{plan.e3mega_version}; stages are shared between runs of one version only"
        )
    if count == 0:
        differences = first_differences(plan, theirs, limit=_NUM_DIFFERENCES)
        raise E3Error(
            f"{plan.name} shares no stage with {shown(source.run_dir)}: the fingerprints of "
            f"{plan.stages[0].name} and {theirs.stages[0].name} differ "
            f"({'; '.join(differences)}); start the run without --from, or make these equal"
        )
    return count


def _last_end(source: RunPaths, count: int) -> _End | None:
    """The newest complete checkpoint at the end of one of the first ``count`` stages."""
    ends: list[_End] = []
    for folder in source.every_checkpoint():
        if (folder / MANIFEST).exists():
            state = read_state(source.loop_state(folder))
            if state.is_stage_finished and state.stage_index < count:
                ends.append(_End(folder, state))
    return max(ends, key=lambda end: end.state.version, default=None)


def _went_on(run: Run, index: int) -> bool:
    """Whether the stage was also measured: a later one began, or the run finished."""
    later = [event for event in run.of("stage_started") if number(event, "index") > index]
    return bool(later or run.of("run_finished"))


def _spent(run: Run) -> dict[str, Ledger]:
    """What each stage cost in all, its measurements included, as the run last counted."""
    newest = max(run.of("ledger"), key=lambda event: number(event, "version"))
    return _sums(*(_ledgers(newest.get(field)) for field in ("shared", "stages")))


def _ledgers(value: Json) -> dict[str, Ledger]:
    if not isinstance(value, dict):
        return {}
    return {stage: read_ledger(json.dumps(each)) for stage, each in value.items()}


def _sums(first: dict[str, Ledger], second: dict[str, Ledger]) -> dict[str, Ledger]:
    stages = [*first, *(stage for stage in second if stage not in first)]
    return {s: first.get(s, Ledger()) + second.get(s, Ledger()) for s in stages}


def _take_checkpoint(
    plan: Plan, paths: RunPaths, end: _End, state: LoopState, source: RunPaths
) -> None:
    """The checkpoint as this run's own: the same weights and optimizer, its own place in the loop.

    The manifest comes last.
    """
    manifest = verify(end.folder)
    folder = paths.checkpoint(manifest.version)
    shutil.rmtree(folder, ignore_errors=True)
    place = str(source.loop_state(end.folder).relative_to(end.folder))
    for name in manifest.files:
        if name != place:
            _link(end.folder / name, folder / name)
    write_whole(paths.loop_state(folder), state_to_json(state).encode())
    files = {**manifest.files, **file_facts(folder, [place])}
    write_manifest(folder, replace(_adopted(manifest, plan), files=files))


def _adopted(manifest: Manifest, plan: Plan) -> Manifest:
    """The manifest with the stages' names in this run, and this run as the one it belongs to."""
    stages = tuple(
        replace(theirs, name=mine.name, fingerprint=mine.fingerprint)
        for mine, theirs in zip(plan.stages, manifest.lineage.stages, strict=False)
    )
    lineage = Lineage(plan.name, plan.seed, plan.e3mega_version, plan.run_fingerprint, stages)
    return replace(manifest, stage=stages[-1].name, lineage=lineage)


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in _NO_LINK:
            raise
        shutil.copy2(source, target)


def _events(run: Run, last: str, *, is_measured: bool) -> Iterator[Event]:
    """The run's events up to the end of the stage ``last``, its measurement included if told so."""
    ended = next(event for event in run.of("stage_finished") if text(event, "stage") == last)
    kinds = IDENTITY.keys() - _NOT_SHARED
    events = (event for kind in sorted(kinds) for event in run.of(kind))
    for event in sorted(events, key=lambda event: number(event, "time")):
        is_before = number(event, "time") <= number(ended, "time")
        is_its_measurement = text(event, "event") == "evaluation" and text(event, "label") == last
        if is_before or (is_measured and is_its_measurement):
            yield event


def _as_shared(event: Event, names: dict[str, str], run: str) -> Event:
    """The event with the names of this run's stages, marked with the run that wrote it."""
    renamed = {
        field: names[str(event[field])]
        for field in ("stage", "label")
        if str(event.get(field)) in names
    }
    return {"shared_from": run, **event, **renamed}
