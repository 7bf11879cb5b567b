"""What evaluation needs of finished groups, as arrays."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from e3mega.rollout.records import FinishReason, Group

# Shape letters: P problems, S samples of a problem.

NEVER = int(np.iinfo(np.int64).max)
"""Stands for a number of tokens that no budget reaches."""


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Outcomes of groups with as many samples each. Example: ``outcomes_of(groups)``."""

    solved_at_PS: NDArray[np.int64]
    """Tokens after which the reward is earned; NEVER where it is not."""
    ended_at_PS: NDArray[np.int64]
    """Tokens after which the model ended; NEVER where its budget cut it."""
    num_tokens_PS: NDArray[np.int64]
    num_attempts_PS: NDArray[np.int64]
    slices: tuple[str, ...]
    """Name of each problem's slice."""

    @property
    def shown_slices(self) -> tuple[str, ...]:
        """``all``, and the slices by name where there are several."""
        names = set(self.slices)
        return ("all", *sorted(names - {"all"})) if len(names) > 1 else ("all",)

    def of_slice(self, name: str) -> "Outcomes":
        """The problems of one slice; ``all`` gives every problem."""
        chosen = np.array([name in ("all", own) for own in self.slices], dtype=bool)
        return Outcomes(
            self.solved_at_PS[chosen],
            self.ended_at_PS[chosen],
            self.num_tokens_PS[chosen],
            self.num_attempts_PS[chosen],
            tuple(own for own in self.slices if name in ("all", own)),
        )


def outcomes_of(groups: Sequence[Group]) -> Outcomes:
    """Outcomes in the order of the groups."""

    def ended_at(finish_reason: FinishReason, num_tokens: int) -> int:
        return num_tokens if finish_reason is FinishReason.STOP else NEVER

    rows = [group.rollouts for group in groups]
    solved_at = [
        [NEVER if r.marks.solved_at is None else r.marks.solved_at for r in row] for row in rows
    ]
    ended = [
        [ended_at(r.completion.finish_reason, len(r.completion.token_ids)) for r in row]
        for row in rows
    ]
    lengths = [[len(r.completion.token_ids) for r in row] for row in rows]
    attempts = [[r.marks.num_attempts for r in row] for row in rows]
    return Outcomes(
        np.array(solved_at, np.int64),
        np.array(ended, np.int64),
        np.array(lengths, np.int64),
        np.array(attempts, np.int64),
        tuple(group.request.prompt.slice_name for group in groups),
    )
