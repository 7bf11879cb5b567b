"""The task section of a fragment or a spec, for commands that need no whole run."""

import json
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from e3mega.errors import Problem, SpecError
from e3mega.spec.compose import compose
from e3mega.spec.files import LIBRARY
from e3mega.tasks.options import TaskOptions

_TASK: TypeAdapter[TaskOptions] = TypeAdapter(TaskOptions)


def named_task(name: str, library: Path = LIBRARY) -> tuple[str, TaskOptions]:
    """A task and what it is called: a fragment's name, or a file that has a ``task`` section.

    Raises SpecError when there is no such file, or its section is not a task.
    """
    given = Path(name)
    fragment = library / "fragments" / "task" / f"{name.removeprefix('task/')}.yaml"
    path = given if given.is_file() else fragment
    if not path.is_file():
        known = sorted(file.stem for file in fragment.parent.glob("*.yaml"))
        need = "a file, or a fragment of specs/fragments/task"
        fix = f"use one of {', '.join(known)}"
        raise SpecError((Problem("command line", "--task", repr(name), need, fix),))
    problems: list[Problem] = []
    composition = compose(path, problems.append, sets=(), set_files=(), library=library)
    if problems:
        raise SpecError(tuple(problems))
    try:
        return path.stem, _TASK.validate_json(json.dumps(composition.tree.get("task")))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(("task", *(str(part) for part in first["loc"])))
        got = json.dumps(first["input"])
        raise SpecError((Problem(str(path), key, got, first["msg"], "correct it"),)) from error
