"""Where the answer of a mathematics response stands."""

import time

import pytest

from e3mega.tasks.failure import Failure
from e3mega.tasks.math.answers import MAX_ANSWER_CHARACTERS, find_answer

RESPONSES = [
    (r"a</think> \boxed{7}", "7", Failure.NONE),
    (r"\boxed{7} a</think>", "7", Failure.NONE),
    (r"a</think> \boxed{6} no: \boxed{7}", "7", Failure.NONE),
    (r"a</think> \boxed{\frac{1}{2}}.", r"\frac{1}{2}", Failure.NONE),
    (r"a</think> \boxed{\{1, 2\}}", r"\{1, 2\}", Failure.NONE),
    (r"a</think> \boxed{ 7 }", "7", Failure.NONE),
    (r"a</think> \boxed {7}", "7", Failure.NONE),
    (r"a</think> $\boxed 7$", "7", Failure.NONE),
    (r"a</think> \fbox{7}", "7", Failure.NONE),
    (r"a</think> \boxed{\text{a } b}", r"\text{a } b", Failure.NONE),
    (r"\boxed{7}", "", Failure.UNFINISHED),
    ("a</think> 7", "", Failure.NO_ANSWER),
    (r"a</think> \boxed{7", "", Failure.NO_ANSWER),
    (r"a</think> \boxed{}", "", Failure.NO_ANSWER),
    (r"a</think> \boxed", "", Failure.NO_ANSWER),
    (r"a</think> \boxed{6} \boxed{7", "", Failure.NO_ANSWER),
    (r"a</think> \boxed{" + "7" * (MAX_ANSWER_CHARACTERS + 1) + "}", "", Failure.TOO_LONG),
    ("", "", Failure.UNFINISHED),
]


@pytest.mark.parametrize(("response", "answer", "failure"), RESPONSES)
def test_the_answer_is_what_the_last_box_holds(
    response: str, answer: str, failure: Failure
) -> None:
    assert find_answer(response, needs_think_end=True) == (answer, failure)


def test_a_model_that_does_not_think_needs_no_end_of_thinking() -> None:
    assert find_answer(r"\boxed{7}", needs_think_end=False) == ("7", Failure.NONE)


@pytest.mark.parametrize("text", ["{", "\\boxed{", "}", "\\", "\\boxed", "</think>"])
def test_a_megabyte_is_searched_in_linear_time(text: str) -> None:
    response = "</think>" + text * (1_000_000 // len(text))
    start = time.monotonic()
    find_answer(response, needs_think_end=True)
    assert time.monotonic() - start < 1
