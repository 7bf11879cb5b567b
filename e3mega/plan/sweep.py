"""Expands axes over one spec into named runs, and into those that train what they share."""

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
from e3mega.plan.planfile import Plan
from e3mega.plan.prefixes import SweepRun, with_prefixes
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


def expand_sweep(base: Path, axes: Sequence[Axis], folder: Path) -> tuple[SweepRun, ...]:
    """Write one spec for each combination into ``folder``, and one for what they share; plan them.

    Every run comes after the one that it begins behind. Raises SpecError with the problems of all
    of them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    problems: list[Problem] = []
    found: list[SweepRun] = []
    for points in product(*(axis.points for axis in axes)):
        path = folder / f"{_run_name(base, axes, points)}.yaml"
        path.write_text(_run_text(base, axes, points, path), encoding="utf-8")
        try:
            plan = _compiled(path)
        except SpecError as error:
            problems += error.problems
            continue
        differs = tuple(_point_text(point) for point in points)
        found.append(SweepRun(path, differs, plan))
    if problems:
        raise SpecError(tuple(dict.fromkeys(problems)))
    return tuple(with_prefixes(found, _name((base.stem,)), _compiled))


def _compiled(path: Path) -> Plan:
    return checked_plan(resolve_spec(path))


def _run_name(base: Path, axes: Sequence[Axis], points: tuple[Json, ...]) -> str:
    """Base and points, as the name of a folder. Example: ``quickstart-seed-2``."""
    parts = [base.stem]
    parts += [f"{axis.short_name}-{_point_text(p)}" for axis, p in zip(axes, points, strict=True)]
    return _name(parts)


def _name(parts: Sequence[str]) -> str:
    """Parts as one name that a run may have."""
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
