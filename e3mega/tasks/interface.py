"""What a task is to the rest of e3mega: prompts, traces, marks and a tokenizer."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from e3mega.tasks.failure import Failure


@dataclass(frozen=True, slots=True)
class Prompt:
    """A problem as token ids. Example: ``Prompt("3 5 7 : 22", (4, 9, 2), "easy")``."""

    problem: str
    """The task's own text for the problem; its verifier reads it back."""
    token_ids: tuple[int, ...]
    slice_name: str
    """The slice of the data it belongs to, e.g. ``easy``."""
    pass_rate: float | None = field(default=None, compare=False)
    """Share of right samples that a grading recorded; None when it was never graded."""


@dataclass(frozen=True, slots=True)
class Marks:
    """What a task's verifier says of a completion. Example: ``Marks(1.0, 2, 2, 1, 0, 0, ...)``."""

    reward: float
    num_attempts: int
    num_unique_attempts: int
    num_claimed_hits: int
    """Attempts that the trace calls hits."""
    num_false_hits: int
    """Attempts called hits that are not."""
    num_missed_hits: int
    """Attempts that hit and were called misses."""
    num_failed_checks: int
    """Attempts that the trace calls misses; those of which it says nothing are not checked."""
    ends_at_failed_check: bool
    """Whether the model ended the trace and its last attempt is one that it calls a miss."""
    solved_at: int | None
    """Tokens after which the reward is earned, end token included; None if never. The reward of
    the completion cut at budget B is ``solved_at is not None and solved_at <= B``."""
    attempts_at: tuple[int, ...]
    """Tokens after which each attempt is complete, ascending."""
    failure: Failure
    """Why the completion could not be graded; it earns nothing then."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt of a completion. Example: ``Attempt(10, is_hit=False, is_claimed=False)``."""

    end: int
    """Tokens after which it is complete."""
    is_hit: bool
    """Whether it is right; False where that cannot be told."""
    is_claimed: bool | None
    """Whether the completion calls it right; None where it says nothing of it."""


@dataclass(frozen=True, slots=True)
class Trace:
    """A supervised example. Example: ``Trace(prompt, (12, 3, 1), True, (1.0, 6.0, 1.0))``."""

    prompt: Prompt
    token_ids: tuple[int, ...]
    """The completion, end token included."""
    has_hit: bool
    weights: tuple[float, ...]
    """Weight of each token of the completion in the loss: its ``TrainSequence.loss_mask``."""


@dataclass(frozen=True, slots=True)
class Probe:
    """A held-out attempt whose verdict the model is asked for.

    ``token_ids`` ends with the token that calls the attempt a hit; the model recognises a hit
    when it gives that token a probability above one half. Example: ``Probe((5, 9, 2), 9, True)``.
    """

    token_ids: tuple[int, ...]
    num_prompt_tokens: int
    is_hit: bool


class Task(Protocol):
    """Deterministic in its options and seed; every method may be called in any order."""

    end_token_ids: tuple[int, ...]
    """Tokens that end a completion."""

    @property
    def num_training(self) -> int:
        """Training prompts of the slice: one epoch of the stream of ``training_prompt``."""
        ...

    @property
    def num_held_out(self) -> int:
        """Held-out prompts there are."""
        ...

    @property
    def answer_cue(self) -> tuple[int, ...]:
        """Tokens put behind an attempt that make the model answer at once; empty if none do."""
        ...

    def training_prompt(self, index: int) -> Prompt:
        """Prompt number ``index`` of the endless, shuffled training stream of the slice."""
        ...

    def held_out_prompts(self, count: int) -> tuple[Prompt, ...]:
        """The first ``count`` held-out prompts, both slices evenly, never trained on."""
        ...

    def trace(self, index: int) -> Trace:
        """Supervised trace number ``index`` of the endless training stream."""
        ...

    def probes(self, count: int) -> tuple[Probe, ...]:
        """``count`` held-out attempts, half of them hits."""
        ...

    def mark(self, prompt: Prompt, token_ids: Sequence[int]) -> Marks:
        """What can be read off a completion at once; never raises on what a model wrote.

        The reward is 0 where only a grading worker can tell.
        """
        ...

    def attempts(self, prompt: Prompt, token_ids: Sequence[int]) -> tuple[Attempt, ...]:
        """The attempts of a completion, in order."""
        ...

    async def judge(self, prompt: Prompt, token_ids: Sequence[int]) -> Marks:
        """The marks with the reward, from a grading worker where the task needs one."""
        ...

    async def close(self) -> None:
        """End the grading workers; called once, when nothing is judged any more."""
        ...

    def text(self, token_ids: Sequence[int]) -> str:
        """The tokens as a person reads them."""
        ...
