"""Decides from the jobs' exit statuses whether a run goes on, is done or has failed."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from e3mega.plan.planfile import LEFT_STATUS, Role

_GOOD = (0, LEFT_STATUS)

LEAVING_GRACE_S = 30.0
"""Longest wait for the learner after the loop has left, and the other way round."""


@dataclass(frozen=True, slots=True)
class JobState:
    """A job's exit status so far. Example: ``JobState("loop", Role.LOOP, None, 0.0)``."""

    name: str
    role: Role
    status: int | None
    """None while it runs; negative: the signal that killed it."""
    ended_s: float
    """Seconds since its end was seen; 0 while it runs."""


class Verdict(Enum):
    """What becomes of the run."""

    GOES_ON = "goes on"
    """Nothing ended that should not."""
    DONE = "done"
    """The loop and the learner left with status 0."""
    LEFT = "left"
    """The loop took a checkpoint and left because it was asked to, the learner with it."""
    FAILED = "failed"
    """A job ended that was still needed, or one stays that should have left."""


def judge(states: Sequence[JobState]) -> tuple[Verdict, tuple[str, ...]]:
    """The verdict, and when it is FAILED the jobs to blame, likeliest first."""
    is_loop_done = _has_left(states, Role.LOOP)
    is_learner_done = _has_left(states, Role.LEARNER)
    # One server of several may be missing: its work goes to the others.
    is_tier_gone = all(s.status is not None for s in states if s.role is Role.GENERATION)
    blamed = [
        state
        for state in states
        if _is_unexpected(state, is_server_needed=is_tier_gone and not is_loop_done)
    ]
    if blamed:
        # What was killed from outside explains the errors of those that talked to it.
        ordered = sorted(blamed, key=lambda state: (not _was_killed(state), -state.ended_s))
        return Verdict.FAILED, tuple(state.name for state in ordered)
    if is_loop_done and is_learner_done:
        has_left = any(state.status == LEFT_STATUS for state in states)
        return Verdict.LEFT if has_left else Verdict.DONE, ()
    late = [
        state
        for state in states
        if state.status in _GOOD and state.role is not Role.GENERATION
        if state.ended_s > LEAVING_GRACE_S
    ]
    if late:
        return Verdict.FAILED, tuple(state.name for state in late)
    return Verdict.GOES_ON, ()


def _has_left(states: Sequence[JobState], role: Role) -> bool:
    return all(state.status in _GOOD for state in states if state.role is role)


def _is_unexpected(state: JobState, *, is_server_needed: bool) -> bool:
    if state.status is None:
        return False
    if state.role is Role.GENERATION:
        return is_server_needed
    return state.status not in _GOOD


def _was_killed(state: JobState) -> bool:
    return state.status is not None and state.status < 0
