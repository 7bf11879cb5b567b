"""How well a model checks its attempts against how often they are right, and whether it goes on.

From recorded completions. An attempt without a stated verdict counts as called right when it is
the last one of a completion that ended, and as called wrong when another attempt follows.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from e3mega.evaluate.pk_model import AttemptCounts
from e3mega.tasks.interface import Attempt

# Shape letters: P problems, C counts of one problem.

NUM_RESAMPLES = 1000


@dataclass(frozen=True, slots=True)
class TriedTrace:
    """The attempts of one completion. Example: ``TriedTrace(0, (attempt,), True, False)``."""

    problem: int
    attempts: tuple[Attempt, ...]
    has_ended: bool
    """Whether the model ended it, rather than its budget."""
    is_right: bool
    """Whether it earned the reward."""


@dataclass(frozen=True, slots=True)
class Rate:
    """A share with its 95 % interval by the bootstrap over problems; NaN without cases.

    Example: ``Rate(0.93, 0.91, 0.95, 812)``.
    """

    value: float
    low: float
    high: float
    num_cases: int


@dataclass(frozen=True, slots=True)
class Asymmetry:
    """What recorded attempts tell. Example: ``measure_asymmetry(traces, seed=1)``."""

    generation: Rate
    """Attempts that are right."""
    recognised_hits: Rate
    """Right attempts that the model calls right."""
    recognised_misses: Rate
    """Wrong attempts that the model calls wrong."""
    verification: Rate
    """Mean of the two shares above, which an always-yes checker brings to one half."""
    gap: Rate
    """Verification less generation: above 0, checking is easier than solving."""
    continues: Rate
    """Attempts called wrong that another one follows, those cut by the budget left out."""
    right_with_checks: Rate
    """Completions with an attempt called wrong that earn the reward."""
    right_without_checks: Rate
    """Completions with attempts, none of them called wrong, that earn the reward."""
    mean_attempts: float


_HITS, _ATTEMPTS, _SEEN_HITS, _MISSES, _SEEN_MISSES = 0, 1, 2, 3, 4
_GONE_ON, _FAILED, _RIGHT_CHECKED, _CHECKED, _RIGHT_PLAIN, _PLAIN = 5, 6, 7, 8, 9, 10
_NUM_COUNTS = 11


def is_called_right(trace: TriedTrace, place: int) -> bool:
    """The verdict on an attempt: the stated one, else the one that the model acted on."""
    stated = trace.attempts[place].is_claimed
    if stated is not None:
        return stated
    return trace.has_ended and place == len(trace.attempts) - 1


def measure_asymmetry(traces: Sequence[TriedTrace], *, seed: int) -> Asymmetry:
    """All shares with their intervals."""
    problems = sorted({trace.problem for trace in traces})
    row_of = {problem: row for row, problem in enumerate(problems)}
    counts_PC = np.zeros((len(problems), _NUM_COUNTS))
    for trace in traces:
        counts_PC[row_of[trace.problem]] += _counts(trace)
    rng = np.random.default_rng(seed)
    draws = rng.integers(len(problems), size=(NUM_RESAMPLES, len(problems)))
    totals_RC = np.concatenate([counts_PC.sum(axis=0)[None], counts_PC[draws].sum(axis=1)])
    generation = _shares(totals_RC, _HITS, _ATTEMPTS)
    hits = _shares(totals_RC, _SEEN_HITS, _HITS)
    misses = _shares(totals_RC, _SEEN_MISSES, _MISSES)
    verification = (hits + misses) / 2
    num = totals_RC[0].astype(int).tolist()
    return Asymmetry(
        generation=_rate(generation, num[_ATTEMPTS]),
        recognised_hits=_rate(hits, num[_HITS]),
        recognised_misses=_rate(misses, num[_MISSES]),
        verification=_rate(verification, num[_ATTEMPTS]),
        gap=_rate(verification - generation, num[_ATTEMPTS]),
        continues=_rate(_shares(totals_RC, _GONE_ON, _FAILED), num[_FAILED]),
        right_with_checks=_rate(_shares(totals_RC, _RIGHT_CHECKED, _CHECKED), num[_CHECKED]),
        right_without_checks=_rate(_shares(totals_RC, _RIGHT_PLAIN, _PLAIN), num[_PLAIN]),
        mean_attempts=num[_ATTEMPTS] / max(1, len(traces)),
    )


def _counts(trace: TriedTrace) -> NDArray[np.float64]:
    counts = np.zeros(_NUM_COUNTS)
    calls = [is_called_right(trace, place) for place in range(len(trace.attempts))]
    for place, (attempt, call) in enumerate(zip(trace.attempts, calls, strict=True)):
        is_last = place == len(trace.attempts) - 1
        if is_last and attempt.is_claimed is None and not trace.has_ended:
            # The budget cut it before the model could act on it: there is no verdict.
            continue
        counts[_ATTEMPTS] += 1
        counts[_HITS if attempt.is_hit else _MISSES] += 1
        counts[_SEEN_HITS] += attempt.is_hit and call
        counts[_SEEN_MISSES] += not attempt.is_hit and not call
        if not call and (not is_last or trace.has_ended):
            counts[_FAILED] += 1
            counts[_GONE_ON] += not is_last
    if calls:
        is_checked = not all(calls)
        counts[_CHECKED if is_checked else _PLAIN] += 1
        counts[_RIGHT_CHECKED if is_checked else _RIGHT_PLAIN] += trace.is_right
    return counts


def _shares(totals_RC: NDArray[np.float64], part: int, whole: int) -> NDArray[np.float64]:
    """One share for all problems, then one for each resample; NaN without cases."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return totals_RC[:, part] / totals_RC[:, whole]


def _rate(values_R: NDArray[np.float64], num_cases: int) -> Rate:
    spread = values_R[1:][~np.isnan(values_R[1:])]
    if np.isnan(values_R[0]) or not len(spread):
        return Rate(float("nan"), float("nan"), float("nan"), num_cases)
    low, high = np.quantile(spread, [0.025, 0.975])
    return Rate(float(values_R[0]), float(low), float(high), num_cases)


def attempt_counts(traces: Sequence[TriedTrace]) -> AttemptCounts:
    """Attempts up to each trace's first hit, by problem and place."""
    problems = sorted({trace.problem for trace in traces})
    row_of = {problem: row for row, problem in enumerate(problems)}
    most = max((len(trace.attempts) for trace in traces), default=0)
    tried_PK = np.zeros((len(problems), most))
    hit_PK = np.zeros((len(problems), most))
    for trace in traces:
        for place, attempt in enumerate(trace.attempts):
            tried_PK[row_of[trace.problem], place] += 1
            if attempt.is_hit:
                hit_PK[row_of[trace.problem], place] += 1
                break
    return AttemptCounts(tried_PK, hit_PK)
