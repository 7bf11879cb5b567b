"""Expands axes over one spec into named runs, and counts what they cost with shared stages once."""

import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from e3mega.errors import Problem, SpecError
from e3mega.metrics import Json
from e3mega.plan.compile import checked_plan
from e3mega.plan.estimate import stage_seconds
from e3mega.plan.planfile import Plan
from e3mega.spec.files import LIBRARY
from e3mega.spec.resolve import resolve_spec


@dataclass(frozen=True, slots=True)
class Axis:
    """One direction of a sweep: values of a key, or fragments for a place.

    Example: ``Axis("loss.negative_weight", (0.0, 1.0), is_fragments=False)``.
    """

    key: str
    points: tuple[Json, ...]
    is_fragments: bool

    @property
    def short_name(self) -> str:
        """Last part of the key, which names the runs."""
        return self.key.rsplit(".", 1)[-1]


@dataclass(frozen=True, slots=True)
class SweepRun:
    """One run of a sweep. Example: ``expand_sweep(base, axes, folder)[0].plan``."""

    path: Path
    """Its spec."""
    differs: tuple[str, ...]
    """Its point on each axis."""
    plan: Plan
    starts_from: str
    """Name of an earlier run whose leading stages it shares; empty if there is none."""
    num_shared_stages: int

    @property
    def own_seconds(self) -> float:
        """Seconds of the stages that no earlier run has taken."""
        own = self.plan.stages[self.num_shared_stages :]
        return sum(stage_seconds(stage, self.plan.estimates.budgets) for stage in own)

    @property
    def own_device_hours(self) -> float:
        """Device-hours of the stages that no earlier run has taken."""
        return self.plan.estimates.num_devices * self.own_seconds / 3600


def expand_sweep(base: Path, axes: Sequence[Axis], folder: Path) -> tuple[SweepRun, ...]:
    """Write one spec for each combination into ``folder``, and plan them.

    Raises SpecError with the problems of all of them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    problems: list[Problem] = []
    found: list[SweepRun] = []
    for points in product(*(axis.points for axis in axes)):
        path = folder / f"{_run_name(base, axes, points)}.yaml"
        path.write_text(_run_text(base, axes, points, path), encoding="utf-8")
        try:
            plan = checked_plan(resolve_spec(path))
        except SpecError as error:
            problems += error.problems
            continue
        differs = tuple(_point_text(point) for point in points)
        found.append(SweepRun(path, differs, plan, *_shared(plan, found)))
    if problems:
        raise SpecError(tuple(dict.fromkeys(problems)))
    return tuple(found)


def _shared(plan: Plan, earlier: Sequence[SweepRun]) -> tuple[str, int]:
    """The earlier run with the most leading stages in common, and how many they are."""
    best, most = "", 0
    for other in earlier:
        pairs = zip(plan.stages, other.plan.stages, strict=False)
        agree = [mine.fingerprint == theirs.fingerprint for mine, theirs in pairs]
        count = agree.index(False) if False in agree else len(agree)
        if count > most:
            best, most = other.plan.name, count
    return best, most


def _run_name(base: Path, axes: Sequence[Axis], points: tuple[Json, ...]) -> str:
    """Base and points, as the name of a folder. Example: ``quickstart-seed-2``."""
    parts = [base.stem]
    parts += [f"{axis.short_name}-{_point_text(p)}" for axis, p in zip(axes, points, strict=True)]
    return re.sub(r"[^A-Za-z0-9_-]+", "_", "-".join(parts))


def _point_text(point: Json) -> str:
    if isinstance(point, list):
        return "+".join(_point_text(each) for each in point)
    text = point if isinstance(point, str) else json.dumps(point)
    return text.rsplit("/", 1)[-1]


def _run_text(base: Path, axes: Sequence[Axis], points: tuple[Json, ...], path: Path) -> str:
    """The spec of one run: the base with fragments replaced and values set."""
    lines = [f"# {', '.join(_describe(axes, points))}"]
    lines.append(f"include: [{_reference(base, path)}]")
    pairs = list(zip(axes, points, strict=True))
    replaced = [(axis.key, point) for axis, point in pairs if axis.is_fragments]
    if replaced:
        lines.append("replace:")
    for key, point in replaced:
        names = point if isinstance(point, list) else [point]
        lines.append(f"  {key}: [{', '.join(str(name) for name in names)}]")
    lines.append(f"name: {_run_name(base, axes, points)}")
    tree: dict[str, Json] = {}
    for axis, point in pairs:
        if not axis.is_fragments:
            _insert(tree, axis.key.split("."), point)
    lines += [f"{name}: {json.dumps(value)}" for name, value in tree.items()]
    return "\n".join(lines) + "\n"


def _describe(axes: Sequence[Axis], points: tuple[Json, ...]) -> Iterator[str]:
    for axis, point in zip(axes, points, strict=True):
        yield f"{axis.key} = {_point_text(point)}"


def _insert(tree: dict[str, Json], parts: list[str], value: Json) -> None:
    for part in parts[:-1]:
        inner = tree.setdefault(part, {})
        assert isinstance(inner, dict), f"an axis inside the value of {part}"
        tree = inner
    tree[parts[-1]] = value


def _reference(base: Path, path: Path) -> str:
    """How the run's file names its base: as a run of the library, or relative to itself."""
    runs = (LIBRARY / "runs").resolve()
    if base.resolve().is_relative_to(runs):
        return f"runs/{base.resolve().relative_to(runs).with_suffix('')}"
    return f"./{os.path.relpath(base.resolve(), path.resolve().parent)}"
