"""Exact marks of a Countdown completion: the reward, and each attempt's verdict checked.

Reward rules are those of the e3 paper's released code: the last ``<answer>`` on the response's
last line, made of digits, ``+ - * / ( ) .`` and spaces, uses exactly the given numbers and lies
within 1e-5 of the target. Two differences: decimals, powers and floor divisions, which pass the
character rule, are refused by the parser; and a completion that never ends earns nothing.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from e3mega.tasks.arithmetic import NotAnExpression, exact_value
from e3mega.tasks.countdown.language import END, EQUALS, HIT, MISS, OPERATORS
from e3mega.tasks.countdown.problems import apply
from e3mega.tasks.failure import Failure
from e3mega.tasks.interface import Attempt, Marks
from e3mega.tasks.word_tokenizer import WordTokenizer

TOLERANCE = Fraction(1, 100_000)
_OPEN, _CLOSE = "<answer>", "</answer>"
_ALLOWED = re.compile(r"[0-9+\-*/(). ]+")


def is_answer_right(response: str, numbers: tuple[int, ...], target: int) -> bool:
    """Whether the text of a response earns the reward; never raises."""
    answer = last_answer(response)
    return answer is not None and is_expression_right(answer, numbers, target)


def last_answer(response: str) -> str | None:
    """What stands in the last pair of answer tags of the last line, in linear time."""
    line = response.rsplit("\n", 1)[-1]
    end = line.rfind(_CLOSE)
    start = line.rfind(_OPEN, 0, end) if end >= 0 else -1
    return line[start + len(_OPEN) : end] if start >= 0 else None


def is_expression_right(expression: str, numbers: tuple[int, ...], target: int) -> bool:
    """Whether an expression uses exactly the given numbers and hits the target; never raises."""
    if _ALLOWED.fullmatch(expression) is None:
        return False
    try:
        value = exact_value(expression)
    except NotAnExpression:
        return False
    used = sorted(int(number) for number in re.findall(r"[0-9]+", expression))
    return used == sorted(numbers) and abs(value - target) < TOLERANCE


@dataclass(frozen=True, slots=True)
class _Attempt:
    """An attempt as it was read: its tokens without the verdict, and what it is worth."""

    token_ids: tuple[int, ...]
    is_claimed: bool
    is_hit: bool
    end: int


class CountdownVerifier:
    """Marks completions of problems with a fixed number of numbers."""

    def __init__(self, tokenizer: WordTokenizer, num_numbers: int) -> None:
        id_of = tokenizer.id_of
        self._tokenizer = tokenizer
        self._num_steps = num_numbers - 1
        self._span = 4 * num_numbers - 3
        self._hit, self._miss, self._equals = id_of[HIT], id_of[MISS], id_of[EQUALS]
        self._end = id_of[END]
        self._operator_of = {id_of[operator]: operator for operator in OPERATORS}
        self._value_of = {i: int(w) for i, w in enumerate(tokenizer.words) if w.isdigit()}

    def _read_attempt(self, body: tuple[int, ...], numbers: list[int], target: int) -> bool | None:
        """Whether the tokens before a verdict are a true hit; None if they are no attempt."""
        value_of, operator_of = self._value_of, self._operator_of
        first = value_of.get(body[0])
        if first is None:
            return None
        used, left, is_exact = [first], first, True
        for start in range(1, self._span, 4):
            operator = operator_of.get(body[start])
            operand = value_of.get(body[start + 1])
            result = value_of.get(body[start + 3])
            is_written = body[start + 2] == self._equals
            if operator is None or operand is None or result is None or not is_written:
                return None
            is_exact = is_exact and apply(operator, left, operand) == result
            used.append(operand)
            left = result
        return is_exact and left == target and sorted(used) == numbers

    def _attempts(
        self, token_ids: Sequence[int], numbers: list[int], target: int
    ) -> list[_Attempt]:
        found: list[_Attempt] = []
        previous_end = 0
        for at, token in enumerate(token_ids):
            if token not in (self._hit, self._miss) or at - self._span < previous_end:
                continue
            body = tuple(token_ids[at - self._span : at])
            is_hit = self._read_attempt(body, numbers, target)
            if is_hit is not None:
                previous_end = at + 1
                found.append(_Attempt(body, token == self._hit, is_hit, previous_end))
        return found

    def attempts(
        self, numbers: tuple[int, ...], target: int, token_ids: Sequence[int]
    ) -> tuple[Attempt, ...]:
        """The attempts of a completion; each has a verdict."""
        found = self._attempts(token_ids, sorted(numbers), target)
        return tuple(Attempt(each.end, each.is_hit, each.is_claimed) for each in found)

    def mark(self, numbers: tuple[int, ...], target: int, token_ids: Sequence[int]) -> Marks:
        """Marks of a completion; what stands behind the end token is not looked at."""
        ids = list(token_ids)
        has_ended = self._end in ids
        if has_ended:
            ids = ids[: ids.index(self._end) + 1]
        attempts = self._attempts(ids, sorted(numbers), target)
        is_right = has_ended and is_answer_right(self._tokenizer.text(ids[:-1]), numbers, target)
        return Marks(
            reward=float(is_right),
            num_attempts=len(attempts),
            num_unique_attempts=len({attempt.token_ids for attempt in attempts}),
            num_claimed_hits=sum(attempt.is_claimed for attempt in attempts),
            num_false_hits=sum(a.is_claimed and not a.is_hit for a in attempts),
            num_missed_hits=sum(a.is_hit and not a.is_claimed for a in attempts),
            num_failed_checks=sum(not a.is_claimed for a in attempts),
            ends_at_failed_check=has_ended and bool(attempts) and not attempts[-1].is_claimed,
            solved_at=len(ids) if is_right else None,
            attempts_at=tuple(attempt.end for attempt in attempts),
            failure=Failure.NONE if has_ended else Failure.UNFINISHED,
        )
