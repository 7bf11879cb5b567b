"""The form of a user's own task: what its Python file defines, checked when it is loaded."""

import hashlib
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from pydantic import ValidationError

from e3mega.errors import E3Error, boundary
from e3mega.tasks.failure import Failure
from e3mega.tasks.own.options import OwnOptions
from e3mega.tasks.text_form import Reading, TextAttempt, TraceText
from e3mega.tasks.text_problems import ProblemSet, TextProblem

_REQUIRED = ("Options", "problems", "prompt", "grade")
_MAX_RESPONSE_CHARACTERS = 200_000


class OwnForm:
    """See ``text_form.TextForm``.

    The file defines ``Options`` (an ``e3mega.options.Options``), ``problems(options, seed)`` (two
    lists of ``(problem, slice)``: training and held out), ``prompt(options, problem)`` and
    ``grade(problem, response) -> (score, failure)``, and may define
    ``trace(options, problem, index)``. Only ``grade`` sees what a model wrote, and it runs in a
    worker.
    """

    answer_cue = ""
    verdicts: tuple[str, ...] = ()

    def __init__(self, options: OwnOptions, seed: int) -> None:
        self._module = load_file(options)
        self._seed = seed
        self.grader: str | None = str(Path(options.path).resolve())
        try:
            self._own = self._module.Options(**options.options)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(map(str, first["loc"]))
            raise E3Error(
                f"task.options.{key}: {first['msg']}; {options.path} says in its class Options "
                f"what it takes: {', '.join(self._module.Options.model_fields)}"
            ) from error

    def problems(self) -> ProblemSet:
        """The file's problems."""
        match self._module.problems(self._own, self._seed):
            case (list() | tuple() as training, list() | tuple() as held_out):
                return ProblemSet(self._read(training), self._read(held_out))
            case other:
                got = type(other).__name__
                raise E3Error(
                    f"{self.grader}: problems gave {got}; need two lists, of training and of "
                    "held-out problems"
                )

    def _read(self, rows: Sequence[object]) -> tuple[TextProblem, ...]:
        found: list[TextProblem] = []
        for row in rows:
            match row:
                case (str() as text, str() as name):
                    found.append(TextProblem(text, name))
                case _:
                    raise E3Error(
                        f"{self.grader}: problems gave {repr(row)[:80]} as a problem; need a pair "
                        "of its text and the name of its slice"
                    )
        return tuple(found)

    def prompt(self, problem: str) -> str:
        """The file's prompt."""
        return self._module.prompt(self._own, problem)

    def attempts(self, problem: str, response: str) -> Sequence[TextAttempt]:
        """Segments between blank lines; whether they are right is not known."""
        found: list[TextAttempt] = []
        end = 0
        for segment in response.split("\n\n"):
            end += len(segment)
            if segment.strip():
                found.append(TextAttempt(end, segment.strip(), False, False, is_checked=False))
            end += 2
        return found

    def read(self, problem: str, response: str) -> Reading:
        """The whole response, for the file's ``grade``."""
        if len(response) > _MAX_RESPONSE_CHARACTERS:
            return Reading("", Failure.TOO_LONG, 0.0)
        return Reading(response, Failure.NONE, None)

    def truth(self, problem: str) -> str:
        """The problem, for the file's ``grade``."""
        return problem

    def trace(self, problem: str, index: int) -> TraceText | None:
        """The file's trace, if it writes any."""
        if not hasattr(self._module, "trace"):
            return None
        return TraceText(self._module.trace(self._own, problem, index), True)

    def probe(self, problem: str, index: int, *, is_hit: bool) -> str | None:
        """None: the language is not known to have verdicts."""
        return None


def load_file(options: OwnOptions) -> ModuleType:
    """The module of the file; E3Error when it is missing, another, broken or incomplete."""
    path = Path(options.path)
    if not path.is_file():
        raise E3Error(f"task.path = {path}: there is no such file; name the task's Python file")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if options.sha256 is not None and found != options.sha256:
        raise E3Error(f"task.path = {path}: its SHA-256 is {found}, not task.sha256; pin it again")
    spec = importlib.util.spec_from_file_location(f"own_task_{found[:16]}", path)
    assert spec is not None and spec.loader is not None, "a .py file has a loader"
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    # A user's file may raise anything.
    with boundary(E3Error, f"task.path = {path}", words=_words):
        spec.loader.exec_module(module)
    missing = [name for name in _REQUIRED if not hasattr(module, name)]
    if missing:
        raise E3Error(f"task.path = {path}: it does not define {', '.join(missing)}; see docs")
    return module


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
