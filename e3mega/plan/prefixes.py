"""Finds the stages that runs of a sweep have in common, so that each is trained once."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from e3mega.errors import SpecError
from e3mega.plan.estimate import stage_seconds
from e3mega.plan.planfile import Plan

Compile = Callable[[Path], Plan]
"""The plan of a spec file; raises SpecError."""


@dataclass(frozen=True, slots=True)
class SweepRun:
    """One run of a sweep. Example: ``SweepRun(Path("base-seed-1.yaml"), ("1",), plan)``."""

    path: Path
    """Its spec."""
    differs: tuple[str, ...]
    """Its point on each axis; "any" where the runs that share it differ."""
    plan: Plan
    is_prefix: bool = False
    """Holds nothing but stages that several runs share."""
    source: str = ""
    """Name of the run that it begins behind; empty if it trains all its stages."""
    num_shared_stages: int = 0

    @property
    def own_seconds(self) -> float:
        """Seconds of the stages that it trains itself."""
        own = self.plan.stages[self.num_shared_stages :]
        return sum(stage_seconds(stage, self.plan.estimates.budgets) for stage in own)

    @property
    def own_device_hours(self) -> float:
        """Device-hours of the stages that it trains itself."""
        return self.plan.estimates.num_devices * self.own_seconds / 3600


def with_prefixes(runs: Sequence[SweepRun], name: str, compiled: Compile) -> list[SweepRun]:
    """The runs behind what they share, every run after the one that it begins behind.

    Where runs part, the stages before are a run of their own, whose spec is written beside theirs
    as ``NAME-shared-N``; if one of the runs is just these stages, the others begin behind it.
    """
    prefixes: dict[str, SweepRun] = {}
    for print_ in _partings(runs):
        users = [run for run in runs if print_ in _prints(run)]
        whole = [run for run in users if _prints(run)[-1] == print_]
        number = 1 + sum(run.is_prefix for run in prefixes.values())
        path = users[0].path.with_name(f"{name}-shared-{number}.yaml")
        found = whole[0] if whole else _cut(users, print_, path, compiled)
        if found is not None:
            prefixes[print_] = found
    every = [*(run for run in prefixes.values() if run.is_prefix), *runs]
    return _ordered([_behind(run, prefixes) for run in every])


def _prints(run: SweepRun) -> tuple[str, ...]:
    return tuple(stage.fingerprint for stage in run.plan.stages)


def _partings(runs: Sequence[SweepRun]) -> Iterator[str]:
    """Fingerprints of the stages behind which runs part or end, the earlier ones first."""
    following: dict[str, list[str]] = {}
    for run in runs:
        prints = _prints(run)
        for here, then in zip(prints, (*prints[1:], ""), strict=True):
            following.setdefault(here, []).append(then)
    for print_, then in following.items():
        if len(then) > 1 and (len(set(then)) > 1 or "" in then):
            yield print_


def _cut(users: Sequence[SweepRun], print_: str, path: Path, compiled: Compile) -> SweepRun | None:
    """A run of the shared stages alone; None if a stage before needs what stands in one behind."""
    first = users[0]
    count = _prints(first).index(print_) + 1
    kept = [stage.name for stage in first.plan.stages[:count]]
    dropped = [f"  curriculum.stages.{stage.name}: []" for stage in first.plan.stages[count:]]
    lines = [
        f"# what {len(users)} runs have in common",
        f"include: [./{first.path.name}]",
        *("replace:", *dropped),
        f"name: {path.stem}",
        f"curriculum: {{order: [{', '.join(kept)}]}}",
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    try:
        plan = compiled(path)
    except SpecError:
        path.unlink()
        return None
    assert plan.stages[-1].fingerprint == print_, f"{path}: a stage depends on what comes later"
    points = zip(*(user.differs for user in users), strict=True)
    differs = tuple(point[0] if len(set(point)) == 1 else "any" for point in points)
    return SweepRun(path, differs, plan, is_prefix=True)


def _behind(run: SweepRun, prefixes: dict[str, SweepRun]) -> SweepRun:
    """The run with the longest of the prefixes that it can begin behind."""
    for count, print_ in reversed(list(enumerate(_prints(run), 1))):
        found = prefixes.get(print_)
        if found is not None and found.path != run.path:
            return replace(run, source=found.plan.name, num_shared_stages=count)
    return run


def _ordered(runs: Sequence[SweepRun]) -> list[SweepRun]:
    """Every run after its source, otherwise in the given order."""
    by_name = {run.plan.name: run for run in runs}
    placed: dict[str, SweepRun] = {}

    def put(run: SweepRun) -> None:
        if run.source and run.source not in placed:
            put(by_name[run.source])
        placed[run.plan.name] = run

    for run in runs:
        if run.plan.name not in placed:
            put(run)
    return list(placed.values())
