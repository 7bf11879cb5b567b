"""The exceptions that a person can mend, each with where, what and how to mend it."""

from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import SequenceMatcher

_MIN_LIKENESS = 0.55
"""One half of a name of two words, and little less, is still a likely meaning of it."""


class E3Error(Exception):
    """Anything that a person can mend; the command line prints it without a traceback."""

    exit_code = 1


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong in a spec.

    Example: ``Problem("specs/runs/a.yaml:3", "layout.learner.tp", "3", "a divisor of 4",
    "use 1, 2 or 4")``.
    """

    where: str
    key: str
    got: str
    need: str
    fix: str

    def __str__(self) -> str:
        return f"{self.where}: {self.key}: got {self.got}; need {self.need}; {self.fix}"


class SpecError(E3Error):
    """All problems of one spec together, one a line."""

    exit_code = 2

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        self.problems = problems
        super().__init__("\n".join(str(problem) for problem in problems))


class JobError(E3Error):
    """A job of a run failed or a wait outlived its deadline; the message names the job."""


class SyncError(E3Error):
    """Weights as installed differ from the weights as sent; names the tensor or the token."""


class CheckpointError(E3Error):
    """A checkpoint is damaged, incomplete or does not fit the plan."""


class TierError(E3Error):
    """A generation server refused a request, answered garbage or went away."""


class RefusedError(TierError):
    """A generation server called a request wrong; any other server would refuse it too."""


class RecordError(E3Error):
    """A file of the run folder is not what its name says."""


class ModelError(E3Error):
    """A Hugging Face model is not supported, or is not the one that the spec describes."""


def nearest(word: str, known: Iterable[str]) -> str | None:
    """What a misspelt word most likely means; None when nothing known is like it.

    Of names with folders the last parts are compared too. Example:
    ``nearest("grop", ("loss/grpo", "task/countdown-3")) == "loss/grpo"``.
    """

    def likeness(name: str) -> tuple[float, float, str]:
        whole, last = _ratio(word, name), _ratio(word.split("/")[-1], name.split("/")[-1])
        return max(whole, last), whole, name

    best = max(known, key=likeness, default=None)
    return best if best is not None and likeness(best)[0] >= _MIN_LIKENESS else None


def _ratio(left: str, right: str) -> float:
    return SequenceMatcher(None, left.lower(), right.lower()).ratio()


@contextmanager
def boundary(
    kind: type[E3Error], doing: str, *, words: Callable[[Exception], str] = str
) -> Generator[None]:
    """Turn whatever the code of others raises within the block into one error of ours.

    Its message is ``doing``, a colon and the ``words`` of what was raised. Errors of ours and
    MemoryError pass as they are.
    """
    try:
        yield
    except (E3Error, MemoryError):
        raise
    except Exception as error:
        raise kind(f"{doing}: {words(error)}") from error
