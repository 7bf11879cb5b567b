"""Multiplication's problems, prompt, attempts, verdicts and traces.

An attempt is one line a digit of the second number, then sums, then, with verification, a check
modulo 9, which is easier than the product: it needs digit sums and one small product.
"""

import re
from collections.abc import Sequence

import numpy as np

from e3mega.errors import E3Error
from e3mega.tasks.countdown.text import Template
from e3mega.tasks.failure import Failure
from e3mega.tasks.math.answers import find_answer
from e3mega.tasks.multiplication.options import MultiplicationOptions
from e3mega.tasks.multiplication.prompts import ASK_FOR_CHECKS, BASE, HIT, MISS
from e3mega.tasks.text_form import Reading, TextAttempt, TraceText
from e3mega.tasks.text_problems import ProblemSet, TextProblem

_CHECK = re.compile(r"^Check:.* (ok|no)$", re.MULTILINE)
_INTEGER = re.compile(r"\s*([0-9]{1,30})(?![0-9])")
_SPLIT_STREAM, _TRACE_STREAM, _PROBE_STREAM = 1, 4, 6
_MAX_SEGMENT_CHARACTERS = 8000


class MultiplicationForm:
    """See ``text_form.TextForm``."""

    grader: str | None = None
    answer_cue = "\n\n\\boxed{"
    verdicts: tuple[str, ...] = (HIT, MISS)

    def __init__(self, options: MultiplicationOptions, seed: int) -> None:
        self._options = options
        self._seed = seed

    def problems(self) -> ProblemSet:
        """Slices by the count of digits; no pair of numbers twice, in whatever order."""
        options = self._options
        training: list[TextProblem] = []
        held_out: list[TextProblem] = []
        for digits in options.num_digits:
            pairs = self._pairs(digits)
            found = [TextProblem(f"{a} * {b}", str(digits)) for a, b in pairs]
            held_out += found[: options.num_held_out]
            training += found[options.num_held_out :]
        size = options.num_held_out
        turns = [held_out[first::size] for first in range(size)]
        return ProblemSet(tuple(training), tuple(each for turn in turns for each in turn))

    def _pairs(self, digits: int) -> list[tuple[int, int]]:
        options = self._options
        wanted = options.num_training + options.num_held_out
        low, high = 10 ** (digits - 1), 10**digits
        available = (high - low) * (high - low + 1) // 2
        if 2 * wanted > available:
            raise E3Error(
                f"task: there are {available} products of {digits} digits, too few for "
                f"{wanted} problems; lower task.num_training and task.num_held_out"
            )
        rng = _rng(self._seed, _SPLIT_STREAM, digits)
        found: dict[frozenset[int], tuple[int, int]] = {}
        while len(found) < wanted:
            a, b = (int(n) for n in rng.integers(low, high, 2))
            found.setdefault(frozenset((a, b)), (a, b))
        return list(found.values())

    def prompt(self, problem: str) -> str:
        """In words, or the product alone; both end where the completion begins."""
        a, b = _factors(problem)
        if self._options.template is Template.SHORT:
            return f"{a} * {b}\n"
        return BASE.format(a=a, b=b) + (ASK_FOR_CHECKS if self._options.asks_for_checks else "")

    def attempts(self, problem: str, response: str) -> Sequence[TextAttempt]:
        """Segments between blank lines that hold an equation; the last result is the attempt's."""
        a, b = _factors(problem)
        found: list[TextAttempt] = []
        start = 0
        for segment in response.split("\n\n"):
            end = start + len(segment)
            shown = segment[:_MAX_SEGMENT_CHARACTERS]
            check = _CHECK.search(shown)
            body = shown if check is None else shown[: check.start()]
            results = [_INTEGER.match(part) for part in body.split("=")[1:]]
            if results:
                last = results[-1]
                found.append(
                    TextAttempt(
                        end=end,
                        key=body.strip(),
                        is_claimed=check is not None and check.group(1) == HIT,
                        is_hit=last is not None and int(last.group(1)) == a * b,
                        is_checked=check is not None,
                    )
                )
            start = end + 2
        return found

    def read(self, problem: str, response: str) -> Reading:
        r"""The number in the last ``\boxed{}``, exactly the product."""
        answer, failure = find_answer(response, needs_think_end=False)
        if failure is not Failure.NONE:
            return Reading("", failure, 0.0)
        digits = answer.replace(",", "").replace(" ", "").replace("\\!", "")
        if not digits.isascii() or not digits.isdigit():
            return Reading(answer, Failure.UNREADABLE, 0.0)
        return Reading(answer, Failure.NONE, float(digits.lstrip("0") == self.truth(problem)))

    def truth(self, problem: str) -> str:
        """The product."""
        a, b = _factors(problem)
        return str(a * b)

    def trace(self, problem: str, index: int) -> TraceText | None:
        """Wrong attempts that their checks find, then a right one and the answer."""
        a, b = _factors(problem)
        if not self._options.trace_has_verification:
            return TraceText(_attempt(a, b) + _boxed(a * b), True)
        rng = _rng(self._seed, _TRACE_STREAM, index)
        segments: list[str] = []
        most = self._options.max_trace_attempts - 1
        while len(segments) < most and rng.random() < self._options.trace_error_frac:
            segments.append(_checked(a, b, _error(rng, a, b)))
        segments.append(_checked(a, b, None))
        return TraceText("\n\n".join(segments) + _boxed(a * b), True)

    def probe(self, problem: str, index: int, *, is_hit: bool) -> str | None:
        """One attempt that is called right."""
        a, b = _factors(problem)
        error = None if is_hit else _error(_rng(self._seed, _PROBE_STREAM, index), a, b)
        return _checked(a, b, error).rsplit(" ", 1)[0] + f" {HIT}"


def _factors(problem: str) -> tuple[int, int]:
    a, b = problem.split(" * ")
    return int(a), int(b)


def _error(rng: np.random.Generator, a: int, b: int) -> tuple[int, int]:
    """Which line is wrong and by how much; never a multiple of 9, which no check would find."""
    place = int(rng.integers(len(str(b))))
    size = int(rng.integers(1, 9)) * 10 ** int(rng.integers(len(str(a))))
    partial = a * int(str(b)[::-1][place]) * 10**place
    sign = 1 if size > partial or rng.random() < 0.5 else -1
    return place, sign * size


def _attempt(a: int, b: int, error: tuple[int, int] | None = None) -> str:
    """Long multiplication, one line a digit, then running sums."""
    lines: list[str] = []
    partials: list[int] = []
    for place, digit in enumerate(reversed(str(b))):
        factor = int(digit) * 10**place
        partial = a * factor + (error[1] if error is not None and error[0] == place else 0)
        lines.append(f"{a} * {factor} = {partial}")
        partials.append(partial)
    total = partials[0]
    for partial in partials[1:]:
        lines.append(f"{total} + {partial} = {total + partial}")
        total += partial
    return "\n".join(lines)


def _checked(a: int, b: int, error: tuple[int, int] | None) -> str:
    wanted = (a % 9) * (b % 9) % 9
    got = (a * b + (error[1] if error is not None else 0)) % 9
    verdict = HIT if wanted == got else MISS
    check = f"Check: mod 9 {a % 9} * {b % 9} = {wanted} and {got} {verdict}"
    return f"{_attempt(a, b, error)}\n{check}"


def _boxed(product: int) -> str:
    return f"\n\n\\boxed{{{product}}}"


def _rng(*entropy: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(list(entropy))))
