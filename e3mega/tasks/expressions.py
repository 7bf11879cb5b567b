"""Random arithmetic expressions as text, and the steps by which their value is found."""

import re
from fractions import Fraction

import numpy as np

from e3mega.tasks.arithmetic import NotAnExpression, exact_value

_PLAIN = re.compile(r"[()]")


def random_expression(
    rng: np.random.Generator, numbers: tuple[int, ...], operators: str, parentheses_frac: float
) -> str:
    """The numbers in this order with random operators between them.

    With probability ``parentheses_frac``, one pair of parentheses stands around two neighbours.
    Example: ``(3 + 5) * 7``.
    """
    words: list[str] = [str(numbers[0])]
    for number in numbers[1:]:
        words += [operators[int(rng.integers(len(operators)))], str(number)]
    if rng.random() < parentheses_frac:
        first = int(rng.integers(len(numbers) - 1))
        words[2 * first] = f"({words[2 * first]}"
        words[2 * first + 2] = f"{words[2 * first + 2]})"
    return " ".join(words)


def value_of(expression: str) -> Fraction | None:
    """The exact value; None where it divides by zero."""
    try:
        return exact_value(expression)
    except NotAnExpression:
        return None


def steps_of(expression: str) -> list[str]:
    """The operations of an expression in the order they are done, one equation each.

    The expression has at most one pair of parentheses, around two neighbours. Example:
    ``steps_of("(3 + 5) * 7") == ["3 + 5 = 8", "8 * 7 = 56"]``.
    """
    words = expression.split(" ")
    inside = next((i for i, word in enumerate(words) if word.startswith("(")), None)
    terms = [_PLAIN.sub("", word) for word in words]
    steps: list[str] = []
    if inside is not None:
        terms = _done(terms, inside + 1, steps)
    for level in ("*/", "+-"):
        place = 1
        while place < len(terms):
            if terms[place] in level:
                terms = _done(terms, place, steps)
            else:
                place += 2
    return steps


def _done(terms: list[str], place: int, steps: list[str]) -> list[str]:
    """The terms with the operation at ``place`` replaced by its value."""
    left, operator, right = terms[place - 1 : place + 2]
    a, b = Fraction(left), Fraction(right)
    value = {"+": a + b, "-": a - b, "*": a * b}[operator] if operator != "/" else a / b
    steps.append(f"{left} {operator} {right} = {value}")
    return [*terms[: place - 1], str(value), *terms[place + 2 :]]
