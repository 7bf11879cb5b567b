"""Small libraries of fragments for tests of the spec language.

``tests/data/specs`` is one that stays as it is while the shipped specs are tuned.
"""

from pathlib import Path

from e3mega.errors import Problem, SpecError
from e3mega.spec.compose import compose
from e3mega.spec.origins import Composition
from e3mega.spec.resolve import Resolved, resolve_spec

STILL = Path(__file__).parent / "data" / "specs"


def write_library(folder: Path, files: dict[str, str]) -> Path:
    """Files by name: ``runs/a`` goes to runs, everything else to fragments."""
    library = folder / "specs"
    for name, text in files.items():
        path = library / (name if name.startswith("runs/") else f"fragments/{name}")
        path = path.with_suffix(".yaml")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return library


def composed(
    folder: Path, files: dict[str, str], *, sets: tuple[str, ...] = (), run: str = "runs/a"
) -> tuple[Composition, list[Problem]]:
    """The merged tree of one run of the library, with the problems of composing it."""
    library = write_library(folder, files)
    problems: list[Problem] = []
    path = library / f"{run}.yaml"
    return compose(path, problems.append, sets=sets, library=library), problems


def merged(folder: Path, files: dict[str, str], *, sets: tuple[str, ...] = ()) -> dict:
    """The merged tree of a library that has no problems."""
    composition, problems = composed(folder, files, sets=sets)
    assert problems == [], "\n".join(str(problem) for problem in problems)
    return composition.tree


def conflicts(folder: Path, files: dict[str, str], *, sets: tuple[str, ...] = ()) -> list[Problem]:
    """The problems of composing a library."""
    return composed(folder, files, sets=sets)[1]


def resolved(folder: Path, text: str, *, sets: tuple[str, ...] = ()) -> Resolved:
    """A run over the fragments in ``tests/data/specs``, written to ``folder/run.yaml``."""
    path = folder / "run.yaml"
    path.write_text(text, encoding="utf-8")
    return resolve_spec(path, sets=sets, library=STILL)


def problems_of(folder: Path, text: str, *, sets: tuple[str, ...] = ()) -> tuple[Problem, ...]:
    """All problems of a run over the fragments in ``tests/data/specs``; fails if there are none."""
    try:
        resolved(folder, text, sets=sets)
    except SpecError as error:
        return error.problems
    raise AssertionError("the spec was accepted")
