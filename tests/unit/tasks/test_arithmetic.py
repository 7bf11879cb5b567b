"""Expressions get the value that Python's own arithmetic gives, or are refused."""

import operator
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from e3mega.tasks.arithmetic import NotAnExpression, exact_value

APPLY = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}

Expression = tuple[str, Fraction]


def joined(parts: tuple[Expression, str, Expression]) -> Expression:
    """Both sides in parentheses, so the value follows from the tree, not from a grammar."""
    (left, left_value), sign, (right, right_value) = parts
    if sign == "/" and right_value == 0:
        sign = "*"
    return f"( {left} ) {sign} ({right})", APPLY[sign](left_value, right_value)


EXPRESSIONS = st.recursive(
    st.integers(0, 99).map(lambda n: (str(n), Fraction(n))),
    lambda inner: st.tuples(inner, st.sampled_from("+-*/"), inner).map(joined),
    max_leaves=6,
)


@given(EXPRESSIONS)
def test_values_of_random_trees(expression: Expression) -> None:
    assert exact_value(expression[0]) == expression[1]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2+3*4", 14),
        ("20-5-3", 12),
        ("24/4/2", 3),
        ("2*3-4*5", -14),
        ("-3 + 5", 2),
        ("5 - -3", 8),
        ("7/2*2", 7),
        ("1/3", Fraction(1, 3)),
    ],
)
def test_precedence_and_order(text: str, value: Fraction) -> None:
    assert exact_value(text) == value


@pytest.mark.parametrize(
    "text",
    [
        *("", "1 2", "(1", "1)", "2**3", "7//2", "3.5", "1/0", "1/(2-2)", "03", "x", "+", "1+"),
        *("()", "(" * 30 + "1" + ")" * 30, "1+" * 150 + "1", "1234567890", "\u0663"),
    ],
)
def test_what_is_no_expression_is_refused(text: str) -> None:
    with pytest.raises(NotAnExpression):
        exact_value(text)
