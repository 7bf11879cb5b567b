"""Exploratory traces for the warm-up and probes of recognition, drawn by index."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from e3mega.tasks.countdown.language import (
    END,
    GIVE_UP,
    HIT,
    MISS,
    answer_text,
    attempt_text,
    steps_text,
)
from e3mega.tasks.countdown.options import CountdownOptions
from e3mega.tasks.countdown.problems import Attempt, Problem

_BLOCK = 1024


@dataclass(frozen=True, slots=True)
class _Draws:
    """Random choices of one block of traces."""

    has_hit: NDArray[np.bool_]
    num_attempts: NDArray[np.int64]
    choices: NDArray[np.float64]
    """(block, max attempts), each between 0 and 1."""


class TraceWriter:
    """Writes trace number ``index``: random misses, then a hit with its answer, or giving up.

    After each attempt a trace ends with the probability ``trace_stop_frac``, and its attempts are
    independent draws from all valid ones, so a base trained on them guesses without a plan and
    gives up early. A few traces are as long as the longest budgets: a base that never saw an
    attempt at such a place cannot calculate or check there, and trying longer does not pay.
    Random choices are drawn a block at a time, which costs less than a generator per trace.
    """

    def __init__(self, options: CountdownOptions, entropy: tuple[int, ...]) -> None:
        self._options = options
        self._entropy = entropy
        self._block = lru_cache(maxsize=2)(self._draw_block)

    def _draw_block(self, block: int) -> _Draws:
        seed = np.random.SeedSequence([*self._entropy, block])
        rng = np.random.Generator(np.random.Philox(seed))
        most = self._options.max_trace_attempts
        return _Draws(
            has_hit=rng.random(_BLOCK) < self._options.trace_hit_frac,
            num_attempts=np.minimum(rng.geometric(self._options.trace_stop_frac, _BLOCK), most),
            choices=rng.random((_BLOCK, most)),
        )

    def attempts(
        self, index: int, problem: Problem, *, has_hit: bool | None = None
    ) -> tuple[tuple[Attempt, ...], bool]:
        """Attempts of trace ``index`` on a problem, and whether the last one is a hit.

        ``has_hit`` overrides the drawn choice.
        """
        draws = self._block(index // _BLOCK)
        row = index % _BLOCK
        ends_in_hit = bool(draws.has_hit[row]) if has_hit is None else has_hit
        count = int(draws.num_attempts[row])
        shares = draws.choices[row].tolist()
        chosen = [problem.misses[int(u * len(problem.misses))] for u in shares[:count]]
        if ends_in_hit:
            chosen[-1] = problem.hits[int(shares[count - 1] * len(problem.hits))]
        return tuple(chosen), ends_in_hit

    def completion(self, index: int, problem: Problem) -> tuple[str, bool]:
        """The text of the completion of trace ``index``, and whether it contains a hit."""
        if not self._options.trace_has_verification:
            (*_, solution), _ = self.attempts(index, problem, has_hit=True)
            return f"{steps_text(solution)} {answer_text(solution)}", True
        attempts, has_hit = self.attempts(index, problem)
        words = [attempt_text(attempt, MISS) for attempt in attempts[:-1]]
        if has_hit:
            words += [attempt_text(attempts[-1], HIT), answer_text(attempts[-1])]
        else:
            words += [attempt_text(attempts[-1], MISS), GIVE_UP, END]
        return " ".join(words), has_hit

    def probe(self, index: int, problem: Problem, *, is_hit: bool) -> str:
        """Attempts as in a trace, the last one called a hit whether it is one or not."""
        attempts, _ = self.attempts(index, problem, has_hit=is_hit)
        words = [attempt_text(attempt, MISS) for attempt in attempts[:-1]]
        return " ".join([*words, attempt_text(attempts[-1], HIT)])
