"""Finds the checksums and revisions of the data and models that a spec names."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from e3mega.families.folder_digest import folder_digest
from e3mega.spec.origins import Key
from e3mega.spec.schema.run import RunOptions
from e3mega.tasks.math.layouts import LAYOUTS
from e3mega.tasks.math.options import MathOptions
from e3mega.tasks.options import TaskOptions
from e3mega.tasks.own.options import OwnOptions
from e3mega.tasks.pinned import data_sha256
from e3mega.tasks.text_options import TextOptions

HubRevision = Callable[[str], str]
"""Gives the newest commit of a data set on the hub."""


def pins(options: RunOptions, hub_revision: HubRevision) -> dict[Key, str]:
    """What holds a run's data and model still, by the keys that take it.

    Of a folder of weights the digest, of data in files or folders their SHA-256, of a hub's data
    set its newest commit. Stages are named where their data is not the run's. What is not on this
    machine is left out; ``unpinned`` names it.
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


def unpinned(options: RunOptions) -> list[str]:
    """The keys that name what is not on this machine, with the path, each once."""
    tasks = [("task", options.task)]
    stages = options.curriculum.stages.items()
    tasks += [(f"curriculum.stages.{name}.task", stage.task) for name, stage in stages]
    named = {
        path: f"{place}.{key}" for place, task in reversed(tasks) for key, _, path in _files(task)
    }
    if options.model.hf_path is not None:
        named[options.model.hf_path] = "model.hf_path"
    return sorted(f"{key} = {path}" for path, key in named.items() if not Path(path).exists())


def _task_pins(task: TaskOptions, hub_revision: HubRevision) -> Iterator[tuple[str, str]]:
    for _, pin, path in _files(task):
        if Path(path).exists():
            yield pin, data_sha256(Path(path))
    if isinstance(task, MathOptions):
        source = task.source or LAYOUTS[task.layout].hub_name
        if source is not None and not _is_local(source):
            yield "revision", hub_revision(source)


def _files(task: TaskOptions) -> Iterator[tuple[str, str, str]]:
    """Each key that names data in files, the key of its checksum, and the path."""
    if isinstance(task, OwnOptions):
        yield "path", "sha256", task.path
    if isinstance(task, MathOptions) and task.source is not None and _is_local(task.source):
        yield "source", "sha256", task.source
    if task.problems is not None:
        yield "problems", "problems_sha256", task.problems
    if isinstance(task, TextOptions) and task.traces is not None:
        yield "traces", "traces_sha256", task.traces


def _is_local(source: str) -> bool:
    """Whether a source is a path and no hub name: it exists, or looks like one."""
    path = Path(source)
    is_file = path.suffix in (".json", ".jsonl", ".parquet", ".csv", ".arrow")
    return path.exists() or path.is_absolute() or source.startswith(".") or is_file


def pinned_text(
    include: str, name: str, found: dict[Key, str], left_out: Sequence[str] = ()
) -> str:
    """A spec that includes another one and pins it, with a comment of what it does not pin."""
    lines = ["# pinned by e3mega pin"]
    lines += [f"# not pinned, since it is not on the machine: {each}" for each in left_out]
    lines += [f"include: [{include}]", f"name: {name}"]
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
