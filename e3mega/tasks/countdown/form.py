"""Countdown's problems, prompt, attempts, verdicts and traces in plain text."""

import re
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from e3mega.errors import E3Error
from e3mega.tasks.countdown.language import problem_text, read_problem
from e3mega.tasks.countdown.prompts import BASE, HIT, MISS, SHORT
from e3mega.tasks.countdown.text import CountdownTextOptions, Template
from e3mega.tasks.countdown.verifier import is_expression_right, last_answer
from e3mega.tasks.expressions import random_expression, steps_of, value_of
from e3mega.tasks.failure import Failure
from e3mega.tasks.text_form import Reading, TextAttempt, TraceText
from e3mega.tasks.text_problems import ProblemSet, TextProblem

_TRY = re.compile(r"^Try: ([0-9+\-*/() ]+)$", re.MULTILINE)
_CHECK = re.compile(r"^Check: .* (ok|no)$", re.MULTILINE)
_RESULT = re.compile(r"\s*-?[0-9]+")
_ARITHMETIC = "0123456789+-*/() "
_SPLIT_STREAM, _TRACE_STREAM, _PROBE_STREAM = 1, 4, 6
_MAX_DRAWS = 200
_MAX_SEGMENT_CHARACTERS = 4000


class CountdownForm:
    """See ``text_form.TextForm``."""

    grader: str | None = None
    answer_cue = "\n</think>\n<answer>"
    verdicts: tuple[str, ...] = (HIT, MISS)

    def __init__(self, options: CountdownTextOptions, seed: int) -> None:
        self._options = options
        self._seed = seed
        self._solutions: dict[str, str] = {}

    def problems(self) -> ProblemSet:
        """Slices by the count of numbers, no multiset of numbers with its target twice."""
        training: list[TextProblem] = []
        held_out: list[TextProblem] = []
        for count in self._options.num_numbers:
            found = self._drawn(count)
            training += found[self._options.num_held_out :]
            held_out += found[: self._options.num_held_out]
        # Slices by turns, so that the first held-out problems are of all of them.
        size = self._options.num_held_out
        turns = [held_out[first::size] for first in range(size)]
        return ProblemSet(tuple(training), tuple(each for turn in turns for each in turn))

    def _drawn(self, count: int) -> list[TextProblem]:
        options = self._options
        rng = _rng(self._seed, _SPLIT_STREAM, count)
        wanted = options.num_training + options.num_held_out
        found: dict[tuple[tuple[int, ...], int], TextProblem] = {}
        for _ in range(_MAX_DRAWS * wanted):
            numbers = tuple(int(n) for n in rng.integers(0, options.max_number + 1, count))
            expression = random_expression(
                rng, numbers, options.operators, options.parentheses_frac
            )
            value = value_of(expression)
            shuffled = [numbers[i] for i in rng.permutation(count)]
            if value is None or value.denominator != 1 or not 0 <= value <= options.max_target:
                continue
            identity = (tuple(sorted(numbers)), int(value))
            if identity not in found:
                text = problem_text(shuffled, int(value))
                found[identity] = TextProblem(text, str(count))
                self._solutions[text] = expression
            if len(found) == wanted:
                return list(found.values())
        raise E3Error(
            f"task: found only {len(found)} different problems of {count} numbers, "
            f"{wanted} are wanted; lower task.num_training or raise task.max_number"
        )

    def prompt(self, problem: str) -> str:
        """The paper's prompt, or the short one; both end where the completion begins."""
        numbers, target = read_problem(problem)
        if self._options.template is Template.SHORT:
            return f"{SHORT.format(numbers=' '.join(map(str, numbers)), target=target)}\n"
        return BASE.format(numbers=list(numbers), target=target)

    def attempts(self, problem: str, response: str) -> Sequence[TextAttempt]:
        """Segments between blank lines that hold an equation (the paper's count of attempts)."""
        numbers, target = read_problem(problem)
        found: list[TextAttempt] = []
        start = 0
        for segment in response.split("\n\n"):
            end = start + len(segment)
            attempt = _attempt(segment[:_MAX_SEGMENT_CHARACTERS], end, numbers, target)
            if attempt is not None:
                found.append(attempt)
            start = end + 2
        return found

    def read(self, problem: str, response: str) -> Reading:
        """The paper's rule: the last answer tags on the last line."""
        numbers, target = read_problem(problem)
        answer = last_answer(response.rstrip())
        if answer is None:
            return Reading("", Failure.NO_ANSWER, 0.0)
        is_right = is_expression_right(answer, numbers, target)
        return Reading(answer.strip(), Failure.NONE, float(is_right))

    def truth(self, problem: str) -> str:
        """The target."""
        return str(read_problem(problem)[1])

    def trace(self, problem: str, index: int) -> TraceText | None:
        """Misses, then a hit with its answer or giving up; a bare solution without checks."""
        solution = self._solutions.get(problem)
        if solution is None:
            return None
        answer = f"</think>\n<answer> {solution} </answer>"
        if not self._options.trace_has_verification:
            return TraceText(f"\n<think>\n{self._try(solution)}\n{answer}", True)
        rng = _rng(self._seed, _TRACE_STREAM, index)
        has_hit = bool(rng.random() < self._options.trace_hit_frac)
        count = int(rng.integers(1, self._options.max_trace_attempts + 1))
        attempts = [self._miss(problem, rng) for _ in range(count - has_hit)]
        segments = [self._checked(problem, each) for each in attempts]
        if has_hit:
            segments.append(self._checked(problem, solution))
        last = answer if has_hit else "none</think>"
        return TraceText("\n<think>\n" + "\n\n".join([*segments, last]), has_hit)

    def probe(self, problem: str, index: int, *, is_hit: bool) -> str | None:
        """One attempt that is called right."""
        solution = self._solutions.get(problem)
        if solution is None:
            return None
        expression = (
            solution if is_hit else self._miss(problem, _rng(self._seed, _PROBE_STREAM, index))
        )
        checked = self._checked(problem, expression)
        return "\n<think>\n" + checked.rsplit(" ", 1)[0] + f" {HIT}"

    def _miss(self, problem: str, rng: np.random.Generator) -> str:
        """A random expression of all numbers that does not hit the target."""
        numbers, target = read_problem(problem)
        for _ in range(_MAX_DRAWS):
            order = tuple(numbers[i] for i in rng.permutation(len(numbers)))
            expression = random_expression(rng, order, "+-*/", self._options.parentheses_frac)
            value = value_of(expression)
            if value is not None and value != target:
                return expression
        return " + ".join(map(str, numbers)) + " + 0"

    def _try(self, expression: str) -> str:
        return "\n".join([f"Try: {expression}", *steps_of(expression)])

    def _checked(self, problem: str, expression: str) -> str:
        _, target = read_problem(problem)
        value = value_of(expression)
        verdict = HIT if value == target else MISS
        return f"{self._try(expression)}\nCheck: {value} = {target} {verdict}"


def _attempt(segment: str, end: int, numbers: tuple[int, ...], target: int) -> TextAttempt | None:
    tried, check = _TRY.search(segment), _CHECK.search(segment)
    equations = _equations(segment)
    if tried is None and not equations:
        return None
    if tried is not None:
        candidates = [tried.group(1)]
    else:
        candidates = [equation.split("=")[0] for equation in equations]
    is_hit = any(is_expression_right(each, numbers, target) for each in candidates)
    return TextAttempt(
        end=end,
        key=tried.group(1) if tried is not None else ", ".join(equations),
        is_claimed=check is not None and check.group(1) == HIT,
        is_hit=is_hit,
        is_checked=check is not None,
    )


def _equations(segment: str) -> list[str]:
    """Every ``expression = number`` in a text, found in linear time."""
    parts = segment.split("=")
    found: list[str] = []
    for left, right in pairwise(parts):
        expression = left[len(left.rstrip(_ARITHMETIC)) :].strip()
        result = _RESULT.match(right)
        if result is not None and any(character.isdigit() for character in expression):
            found.append(f"{expression} = {result.group().strip()}")
    return found


def _rng(*entropy: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(list(entropy))))
