"""Exact value of an arithmetic expression that a model wrote, without eval."""

import re
from fractions import Fraction

MAX_CHARACTERS = 200
MAX_DEPTH = 20
_TOKENS = re.compile(r"\s*(?:([0-9]{1,9})|([-+*/()]))")


class NotAnExpression(ValueError):
    """The text is no expression of whole numbers, ``+ - * /`` and parentheses."""


class _Parser:
    """Recursive descent over the tokens of one expression."""

    def __init__(self, tokens: list[str]) -> None:
        self._tokens = tokens
        self._at = 0

    def _peek(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def _take(self) -> str:
        token = self._peek()
        self._at += 1
        return token

    def whole(self) -> Fraction:
        value = self._sum(0)
        if self._peek():
            raise NotAnExpression(f"did not expect {self._peek()!r}")
        return value

    def _sum(self, depth: int) -> Fraction:
        value = self._product(depth)
        while self._peek() in ("+", "-"):
            sign = 1 if self._take() == "+" else -1
            value += sign * self._product(depth)
        return value

    def _product(self, depth: int) -> Fraction:
        value = self._factor(depth)
        while self._peek() in ("*", "/"):
            if self._take() == "*":
                value *= self._factor(depth)
                continue
            divisor = self._factor(depth)
            if divisor == 0:
                raise NotAnExpression("division by zero")
            value /= divisor
        return value

    def _factor(self, depth: int) -> Fraction:
        if depth > MAX_DEPTH:
            raise NotAnExpression(f"nested deeper than {MAX_DEPTH}")
        token = self._take()
        if token in ("+", "-"):
            return self._factor(depth + 1) * (1 if token == "+" else -1)
        if token == "(":
            value = self._sum(depth + 1)
            if self._take() != ")":
                raise NotAnExpression("a parenthesis is not closed")
            return value
        if not token.isdigit() or (len(token) > 1 and token.startswith("0")):
            raise NotAnExpression(f"expected a number, got {token!r}")
        return Fraction(int(token))


def exact_value(expression: str) -> Fraction:
    """The value as a fraction; NotAnExpression if the text is none or passes the limits.

    Example: ``exact_value("( 1 + 2 ) / 4") == Fraction(3, 4)``. Decimals, powers, floor divisions
    and numbers with leading zeros or more than nine digits are refused.
    """
    if len(expression) > MAX_CHARACTERS:
        raise NotAnExpression(f"longer than {MAX_CHARACTERS} characters")
    tokens: list[str] = []
    at, text = 0, expression.rstrip()
    while at < len(text):
        match = _TOKENS.match(text, at)
        if match is None:
            raise NotAnExpression(f"cannot read {text[at : at + 10]!r}")
        if match.group(1) and tokens and tokens[-1].isdigit():
            raise NotAnExpression("two numbers in a row")
        tokens.append(match.group(1) or match.group(2))
        at = match.end()
    return _Parser(tokens).whole()
