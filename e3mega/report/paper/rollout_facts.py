"""What the recorded rollouts of a run say about attempts, lengths and repetition."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

from e3mega.plan.paths import RunPaths
from e3mega.report.runs import Run
from e3mega.rollout.records import Group, Purpose
from e3mega.rollout.rows import read_groups, read_texts

MAX_ROUNDS = 12
"""Rounds of a stage that are read, spread evenly: a page must not take minutes."""
_MIN_REPEATS, _MIN_REPEATED_TOKENS = 3, 12


@dataclass(frozen=True, slots=True)
class RolloutFacts:
    """Facts of one run. Example: ``facts_of(run)``."""

    unique_attempts: tuple[int, ...]
    """Of each problem of which half of the rollouts or more are incorrect: different attempts in
    its incorrect rollouts of all measurements, else of training."""
    num_measurements: int
    """Measurements of held-out problems that attempts were counted over; 0 for training rollouts,
    where the run was not measured within its stages."""
    repetition_frac: float
    """Share of training rollouts that end in repeated tokens."""
    equations: tuple[tuple[int, float], ...]
    """Version of a round, and ``=`` signs in an attempt of it on average."""
    held_out_lengths: tuple[int, ...]
    """Tokens of the completions of the last evaluation."""


def ends_in_repetition(token_ids: Sequence[int]) -> bool:
    """Whether the last tokens are one block at least three times over, 12 tokens or more."""
    for period in range(1, len(token_ids) // _MIN_REPEATS + 1):
        size = max(_MIN_REPEATS * period, _MIN_REPEATED_TOKENS)
        tail = token_ids[-size:]
        if len(tail) == size and all(tail[i] == tail[i - period] for i in range(period, size)):
            return True
    return False


def facts_of(run: Run) -> RolloutFacts:
    """Facts of the rollouts on disk; all of them empty where there are none."""
    return _facts(run.paths.run_dir, bool(run.of("evaluation_within")))


@lru_cache(maxsize=32)
def _facts(run_dir: Path, is_followed: bool) -> RolloutFacts:
    trained, measured = (_rounds(run_dir, each) for each in (Purpose.TRAIN, Purpose.EVALUATE))
    is_followed = is_followed and bool(measured)
    counted = measured if is_followed else trained
    repeating = [
        ends_in_repetition(rollout.completion.token_ids)
        for _, groups in trained
        for group in groups
        for rollout in group.rollouts
    ]
    return RolloutFacts(
        unique_attempts=_unique_attempts([group for _, groups in counted for group in groups]),
        num_measurements=len(measured) if is_followed else 0,
        repetition_frac=sum(repeating) / len(repeating) if repeating else 0.0,
        equations=_equations(trained),
        held_out_lengths=tuple(
            len(rollout.completion.token_ids)
            for _, groups in measured[-1:]
            for group in groups
            for rollout in group.rollouts
        ),
    )


def _unique_attempts(groups: Sequence[Group]) -> tuple[int, ...]:
    """By problem, over all groups that ask it; problems solved by most rollouts are left out."""
    seen: dict[str, set[tuple[int, ...]]] = {}
    balance: dict[str, int] = {}
    for group in groups:
        problem = group.request.prompt.problem
        attempts = seen.setdefault(problem, set())
        for rollout in group.rollouts:
            is_wrong = rollout.marks.reward <= 0
            balance[problem] = balance.get(problem, 0) + (-1 if is_wrong else 1)
            if is_wrong:
                tokens = rollout.completion.token_ids
                attempts.update(_attempts(tokens, rollout.marks.attempts_at))
    return tuple(len(seen[problem]) for problem, more in balance.items() if more <= 0)


def _equations(rounds: Sequence[tuple[Path, Sequence[Group]]]) -> tuple[tuple[int, float], ...]:
    """By version of a round: ``=`` signs of its texts over its attempts."""
    found: list[tuple[int, float]] = []
    for path, groups in rounds:
        num_attempts = sum(
            len(rollout.marks.attempts_at) for group in groups for rollout in group.rollouts
        )
        num_signs = sum(text.count("=") for text in read_texts(path))
        if num_attempts and num_signs:
            found.append((groups[0].request.version, num_signs / num_attempts))
    return tuple(found)


def _attempts(tokens: Sequence[int], ends: Sequence[int]) -> list[tuple[int, ...]]:
    """The tokens of each attempt, without the verdict that closes it."""
    return [tuple(tokens[start : end - 1]) for start, end in pairwise((0, *ends))]


def _rounds(run_dir: Path, purpose: Purpose) -> list[tuple[Path, tuple[Group, ...]]]:
    """Recorded rounds with their files, in the order of their versions."""
    folder = RunPaths(run_dir).rollouts_for(purpose.value)
    found: list[tuple[Path, tuple[Group, ...]]] = []
    for stage in sorted(path for path in folder.glob("*") if path.is_dir()):
        paths = sorted(stage.glob("round_*.parquet"))
        places = {round(i * (len(paths) - 1) / (MAX_ROUNDS - 1)) for i in range(MAX_ROUNDS)}
        chosen = [paths[place] for place in sorted(places)] if paths else []
        found += [(path, read_groups(path)) for path in chosen]
    filled = [(path, groups) for path, groups in found if groups]
    return sorted(filled, key=lambda each: each[1][0].request.version)
