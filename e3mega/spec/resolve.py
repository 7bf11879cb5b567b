"""From a spec's path to its typed options with the origin of every value, or all its problems."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from e3mega.errors import Problem, SpecError, nearest
from e3mega.spec.check import type_check
from e3mega.spec.compose import compose
from e3mega.spec.files import LIBRARY
from e3mega.spec.origins import Composition
from e3mega.spec.rules import check_rules
from e3mega.spec.schema.run import RunOptions


@dataclass(frozen=True, slots=True)
class Resolved:
    """A spec that is right. Example: ``resolve_spec(find_spec("quickstart")).options.seed``."""

    options: RunOptions
    composition: Composition


def find_spec(name: str, library: Path = LIBRARY) -> Path:
    """The file of a spec: a path, or the name of a run in ``specs/runs``.

    Raises SpecError when there is none, with the nearest name.
    """
    path = Path(name)
    if path.is_file():
        return path
    runs = library / "runs"
    if (runs / f"{name}.yaml").is_file():
        return runs / f"{name}.yaml"
    known = sorted(str(file.relative_to(runs))[:-5] for file in runs.rglob("*.yaml"))
    near = nearest(name, known)
    fix = f"did you mean {near}?" if near else f"use one of {', '.join(known)}"
    need = "a spec's path or the name of a run in specs/runs"
    raise SpecError((Problem("command line", "SPEC", repr(name), need, fix),))


def resolve_spec(
    path: Path,
    *,
    sets: Sequence[str] = (),
    set_files: Sequence[Path] = (),
    library: Path = LIBRARY,
) -> Resolved:
    """Compose, type and check a spec.

    Raises SpecError with all problems together.
    """
    problems: list[Problem] = []
    composition = compose(path, problems.append, sets=sets, set_files=set_files, library=library)
    options = type_check(composition, problems.append)
    if options is not None:
        check_rules(options, composition, problems.append)
    if problems or options is None:
        raise SpecError(tuple(sorted(set(problems), key=str)))
    return Resolved(options, composition)
