"""What distinguishes one task of plain text from another: its problems, words and verdicts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from e3mega.tasks.failure import Failure
from e3mega.tasks.text_problems import ProblemSet


@dataclass(frozen=True, slots=True)
class TextAttempt:
    """One attempt in a response. Example: ``TextAttempt(84, "3 * 5 = 15", True, False)``."""

    end: int
    """Characters of the response up to and with it."""
    key: str
    """Attempts with the same key are the same."""
    is_claimed: bool
    """Whether the response calls it right."""
    is_hit: bool
    """Whether it is right; False where that cannot be told."""
    is_checked: bool = True
    """Whether the response says of it that it is right or wrong."""

    @property
    def is_called_miss(self) -> bool:
        """Whether the response calls it wrong."""
        return self.is_checked and not self.is_claimed


@dataclass(frozen=True, slots=True)
class Reading:
    """The answer that a response states. Example: ``Reading("4042", Failure.NONE, 1.0)``."""

    answer: str
    failure: Failure
    reward: float | None
    """What it earns; None when a grading worker must compare it with the truth."""


@dataclass(frozen=True, slots=True)
class TraceText:
    """A supervised completion without its end token. Example: ``TraceText("...", True)``."""

    text: str
    has_hit: bool


class TextForm(Protocol):
    """Deterministic in its options and seed; nothing here raises on what a model wrote."""

    grader: str | None
    """Module or file of the grading worker; None when ``read`` knows the reward."""
    verdicts: tuple[str, ...]
    """Words that call an attempt right or wrong; empty if the language has none."""

    answer_cue: str
    """Put behind an attempt, it makes the model answer at once; empty if nothing does."""

    def problems(self) -> ProblemSet:
        """The task's own problems."""
        ...

    def prompt(self, problem: str) -> str:
        """The prompt, or the user's turn of a chat."""
        ...

    def attempts(self, problem: str, response: str) -> Sequence[TextAttempt]:
        """The attempts of a response, in order."""
        ...

    def read(self, problem: str, response: str) -> Reading:
        """The answer of a response that has ended."""
        ...

    def truth(self, problem: str) -> str:
        """What the grading worker compares an answer with."""
        ...

    def trace(self, problem: str, index: int) -> TraceText | None:
        """Supervised completion number ``index``; None if the task writes none of its own."""
        ...

    def probe(self, problem: str, index: int, *, is_hit: bool) -> str | None:
        """The start of a completion up to and with a verdict that calls an attempt right."""
        ...
