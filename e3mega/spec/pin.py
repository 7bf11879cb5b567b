"""Finds the checksums and revisions of the data and models that a spec names."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

from e3mega.families.folder_digest import folder_digest
from e3mega.spec.origins import Key
from e3mega.spec.schema.run import RunOptions
from e3mega.tasks.math import MathOptions
from e3mega.tasks.math_layouts import LAYOUTS
from e3mega.tasks.options import TaskOptions
from e3mega.tasks.own import OwnOptions

HubRevision = Callable[[str], str]
"""Gives the newest commit of a data set on the hub."""


def pins(options: RunOptions, hub_revision: HubRevision) -> dict[Key, str]:
    """What holds a run's data and model still, by the keys that take it.

    Of a folder of weights the digest, of a data file its SHA-256, of a hub's data set its newest
    commit. Stages are named where their data is not the run's.
    """
    found: dict[Key, str] = {}
    if options.model.hf_path is not None and Path(options.model.hf_path).is_dir():
        found["model", "hf_sha256"] = folder_digest(Path(options.model.hf_path))
    run = dict(_task_pins(options.task, hub_revision))
    found |= {("task", name): value for name, value in run.items()}
    for stage, each in options.curriculum.stages.items():
        for name, value in _task_pins(each.task, hub_revision):
            if run.get(name) != value:
                found["curriculum", "stages", stage, "task", name] = value
    return found


def _task_pins(task: TaskOptions, hub_revision: HubRevision) -> Iterator[tuple[str, str]]:
    if isinstance(task, OwnOptions):
        yield "sha256", file_sha256(Path(task.path))
    elif isinstance(task, MathOptions):
        source = task.source or LAYOUTS[task.layout].hub_name
        if source is not None and Path(source).is_file():
            yield "sha256", file_sha256(Path(source))
        elif source is not None and not Path(source).exists():
            yield "revision", hub_revision(source)


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file; raises OSError when it cannot be read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def pinned_text(include: str, name: str, found: dict[Key, str]) -> str:
    """A spec that includes another one and pins it."""
    lines = [f"# pinned by e3mega pin\ninclude: [{include}]", f"name: {name}"]
    opened: Key = ()
    for key in sorted(found):
        shared = 0
        while shared < min(len(opened), len(key) - 1) and opened[shared] == key[shared]:
            shared += 1
        for depth in range(shared, len(key) - 1):
            lines.append(f"{'  ' * depth}{key[depth]}:")
        lines.append(f'{"  " * (len(key) - 1)}{key[-1]}: "{found[key]}"')
        opened = key[:-1]
    return "\n".join(lines) + "\n"
