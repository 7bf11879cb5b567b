"""Every Countdown problem of the options: its attempts and its difficulty."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations_with_replacement, permutations, product

from e3mega.tasks.countdown.options import CountdownOptions, Half


@dataclass(frozen=True, slots=True)
class Attempt:
    """One way to use every number once, from left to right.

    Example: ``Attempt((3, 5, 7), ("+", "-"), (8, 1))`` is (3 + 5) - 7 = 1.
    """

    operands: tuple[int, ...]
    operators: tuple[str, ...]
    values: tuple[int, ...]
    """After each operator; the last one is the attempt's value."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Numbers, ascending, and a target that some valid attempt hits and some other misses."""

    numbers: tuple[int, ...]
    target: int
    hits: tuple[Attempt, ...]
    misses: tuple[Attempt, ...]

    @property
    def hit_share(self) -> float:
        """Share of the valid attempts that hit: how easy the problem is by guessing."""
        return len(self.hits) / (len(self.hits) + len(self.misses))


def apply(operator: str, left: int, right: int) -> int | None:
    """The value of one operation on whole numbers; None for a division that leaves a rest."""
    if operator == "+":
        return left + right
    if operator == "-":
        return left - right
    if operator == "*":
        return left * right
    return left // right if right and left % right == 0 else None


def _values(
    operands: tuple[int, ...], operators: tuple[str, ...], max_value: int
) -> tuple[int, ...] | None:
    """Values after each operator, or None when one leaves 0 to ``max_value``."""
    value: int | None = operands[0]
    values: list[int] = []
    for operator, operand in zip(operators, operands[1:], strict=True):
        value = apply(operator, value, operand)
        if value is None or not 0 <= value <= max_value:
            return None
        values.append(value)
    return tuple(values)


def valid_attempts(numbers: tuple[int, ...], operators: str, max_value: int) -> tuple[Attempt, ...]:
    """Every attempt on the numbers whose values all stay in range, each text once, sorted."""
    found: dict[tuple[tuple[int, ...], tuple[str, ...]], Attempt] = {}
    for operands in sorted(set(permutations(numbers))):
        for chosen in product(sorted(set(operators)), repeat=len(numbers) - 1):
            values = _values(operands, chosen, max_value)
            if values is not None:
                found[operands, chosen] = Attempt(operands, chosen, values)
    return tuple(found.values())


def _problems_of(numbers: tuple[int, ...], operators: str, max_value: int) -> Iterator[Problem]:
    attempts = valid_attempts(numbers, operators, max_value)
    for target in sorted({attempt.values[-1] for attempt in attempts}):
        hits = tuple(a for a in attempts if a.values[-1] == target)
        misses = tuple(a for a in attempts if a.values[-1] != target)
        if misses:
            yield Problem(numbers, target, hits, misses)


@lru_cache(maxsize=4)
def _enumerate(
    num_numbers: int, max_number: int, max_value: int, operators: str
) -> dict[Half, tuple[Problem, ...]]:
    """Problems of each half: sorted by share, numbers and target, cut in the middle."""
    problems = [
        problem
        for numbers in combinations_with_replacement(range(1, max_number + 1), num_numbers)
        for problem in _problems_of(numbers, operators, max_value)
    ]
    problems.sort(key=lambda problem: (problem.hit_share, problem.numbers, problem.target))
    middle = len(problems) // 2
    return {Half.HARD: tuple(problems[:middle]), Half.EASY: tuple(problems[middle:])}


def all_problems(options: CountdownOptions) -> dict[Half, tuple[Problem, ...]]:
    """Every problem of the options by half; those with the larger hit share are easy."""
    return _enumerate(options.num_numbers, options.max_number, options.max_value, options.operators)
