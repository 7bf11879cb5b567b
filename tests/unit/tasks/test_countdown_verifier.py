"""Marks of completions, worked by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from e3mega.tasks.countdown.language import vocabulary
from e3mega.tasks.countdown.options import CountdownOptions
from e3mega.tasks.countdown.task import CountdownTask
from e3mega.tasks.countdown.verifier import is_answer_right
from e3mega.tasks.failure import Failure
from e3mega.tasks.interface import Marks, Prompt
from e3mega.tasks.word_tokenizer import WordTokenizer

OPTIONS = CountdownOptions(kind="countdown")
TASK = CountdownTask(OPTIONS, 1)
IDS = WordTokenizer(vocabulary(OPTIONS)).ids
PROMPT = Prompt("3 7 5 : 22", IDS("numbers 3 7 5 target 22 think"), "easy")

MISS = "3 + 5 = 8 + 7 = 15 no"
HIT = "3 * 5 = 15 + 7 = 22 ok"
ANSWER = "<answer> ( 3 * 5 ) + 7 </answer> <end>"


def mark(text: str) -> Marks:
    return TASK.mark(PROMPT, IDS(text))


def test_a_miss_then_a_hit_then_the_answer() -> None:
    assert mark(f"{MISS} {HIT} {ANSWER}") == Marks(
        reward=1.0,
        num_attempts=2,
        num_unique_attempts=2,
        num_claimed_hits=1,
        num_false_hits=0,
        num_missed_hits=0,
        num_failed_checks=1,
        ends_at_failed_check=False,
        solved_at=30,
        attempts_at=(10, 20),
        failure=Failure.NONE,
    )


def test_giving_up_earns_nothing_and_repeats_count_once() -> None:
    marks = mark(f"{MISS} {MISS} none <end>")
    assert (marks.reward, marks.solved_at) == (0.0, None)
    assert (marks.num_attempts, marks.num_unique_attempts) == (2, 1)


def test_a_trace_ends_at_a_failed_check_when_it_ends_without_another_attempt() -> None:
    given_up = mark(f"{HIT} {MISS} {MISS} none <end>")
    assert (given_up.num_failed_checks, given_up.ends_at_failed_check) == (2, True)
    cut = mark(f"{MISS} {MISS}")
    assert (cut.num_failed_checks, cut.ends_at_failed_check) == (2, False)
    answered = mark(f"{MISS} {HIT} {ANSWER}")
    assert (answered.num_failed_checks, answered.ends_at_failed_check) == (1, False)
    unchecked = mark("3 + 5 = 8 + 7 = 15 none <end>")
    assert (unchecked.num_failed_checks, unchecked.ends_at_failed_check) == (0, False)


def test_verdicts_are_checked_against_the_arithmetic_and_the_numbers() -> None:
    wrong_sum = "3 * 5 = 14 + 8 = 22 ok"
    wrong_arithmetic = "3 + 5 = 15 + 7 = 22 ok"
    other_numbers = "2 * 8 = 16 + 6 = 22 ok"
    a_number_twice = "3 * 5 = 15 + 7 = 22 no"
    assert mark(wrong_sum).num_false_hits == 1
    assert mark(wrong_arithmetic).num_false_hits == 1
    assert mark(other_numbers).num_false_hits == 1
    assert mark(MISS.replace("no", "ok")).num_false_hits == 1
    assert mark(a_number_twice).num_missed_hits == 1
    assert mark("3 + 5 = 9 + 7 = 16 no").num_attempts == 1


@pytest.mark.parametrize(
    "text",
    ["ok", "no", "3 + 5 = 8 no", "3 + 5 = 8 + 7 = 15", "3 + 5 8 = + 7 = 15 no", "none <end>", ""],
)
def test_pieces_of_attempts_are_no_attempts(text: str) -> None:
    assert mark(text).num_attempts == 0


def test_an_attempt_does_not_reach_back_into_the_one_before() -> None:
    assert mark("3 + 5 = 8 + 7 = 15 no = 8 + 7 = 15 no").num_attempts == 1


def test_a_cut_completion_earns_nothing_and_its_attempts_count() -> None:
    whole = IDS(f"{MISS} {HIT} {ANSWER}")
    for budget in range(len(whole) + 1):
        marks = TASK.mark(PROMPT, whole[:budget])
        assert marks.reward == float(budget >= 30)
        assert marks.num_attempts == min(2, budget // 10)


def test_what_follows_the_end_is_not_looked_at() -> None:
    assert mark(f"{HIT} {ANSWER} {MISS} <answer> 1 </answer>") == mark(f"{HIT} {ANSWER}")


def test_an_answer_without_an_attempt_or_against_its_verdicts_earns_the_reward() -> None:
    assert mark(ANSWER).reward == 1.0
    assert mark(f"{MISS} {ANSWER}").reward == 1.0


@pytest.mark.parametrize(
    ("response", "is_right"),
    [
        ("<answer> ( 3 * 5 ) + 7 </answer>", True),
        ("<answer>7+5*3</answer>", True),
        ("<answer> 1 </answer> then <answer> 3 * 5 + 7 </answer>", True),
        ("<answer> 3 * 5 + 7 </answer> then <answer> 1 </answer>", False),
        ("thinking\n<answer> 3 * 5 + 7 </answer>", True),
        ("<answer> 3 * 5 + 7 </answer>\n", False),
        ("<answer> 3 * 5 + 7 = 22 </answer>", False),
        ("<answer> 15 + 7 </answer>", False),
        ("<answer> 3 * 5 + 7 + 0 </answer>", False),
        ("<answer> 3 * 5 + 7 * 3 / 3 </answer>", False),
        ("<answer> 3 + 5 + 7 </answer>", False),
        ("<answer> 3 ** 5 + 7 </answer>", False),
        ("<answer> 3 * 5 + 7 ", False),
        ("<answer></answer>", False),
        ("", False),
    ],
)
def test_answers(response: str, is_right: bool) -> None:
    assert is_answer_right(response, (3, 7, 5), 22) is is_right


def test_answers_are_exact_within_the_tolerance() -> None:
    """5 - 1 / 5 five times is 24; 1 / 200000 is below 1e-5 and 1 / 90000 above it."""
    assert is_answer_right("<answer> 5 * (5 - 1 / 5) </answer>", (1, 5, 5, 5), 24)
    assert is_answer_right("<answer> 22 + 1 / 200000 </answer>", (22, 1, 200000), 22)
    assert not is_answer_right("<answer> 22 + 1 / 90000 </answer>", (22, 1, 90000), 22)


@given(st.lists(st.integers(0, 127), max_size=80))
def test_marking_never_raises_and_its_counts_are_consistent(token_ids: list[int]) -> None:
    marks = TASK.mark(PROMPT, token_ids)
    assert marks.num_unique_attempts <= marks.num_attempts == len(marks.attempts_at)
    assert marks.num_false_hits <= marks.num_claimed_hits
    assert (marks.solved_at is not None) == (marks.reward == 1.0)
