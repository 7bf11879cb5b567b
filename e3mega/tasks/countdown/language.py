"""Countdown as words: the vocabulary, prompts, attempts and answers.

A prompt is ``numbers 3 5 7 target 1 think``. A completion is any number of attempts, each
``3 + 5 = 8 - 7 = 1 ok`` (``no`` for a miss), then ``<answer> ( 3 + 5 ) - 7 </answer> <end>``, or
``none <end>`` when it gives up. A trace without verification is ``3 + 5 = 8 - 7 = 1 <answer>
( 3 + 5 ) - 7 </answer> <end>``.
"""

from collections.abc import Sequence

from e3mega.tasks.countdown.options import CountdownOptions
from e3mega.tasks.countdown.problems import Attempt

SPECIAL_WORDS = ("<pad>", "<end>", "<unk>")
END = "<end>"
HIT, MISS, GIVE_UP = "ok", "no", "none"
EQUALS = "="
OPEN_ANSWER, CLOSE_ANSWER = "<answer>", "</answer>"
OPERATORS = ("+", "-", "*", "/")
_OTHER_WORDS = ("numbers", "target", "think", EQUALS, "(", ")", *OPERATORS, HIT, MISS, GIVE_UP)


def vocabulary(options: CountdownOptions) -> tuple[str, ...]:
    """All words; every value from 0 to the largest is one token."""
    largest = max(options.max_value, options.max_number)
    values = tuple(str(value) for value in range(largest + 1))
    return (*SPECIAL_WORDS, *_OTHER_WORDS, OPEN_ANSWER, CLOSE_ANSWER, *values)


def prompt_text(numbers: Sequence[int], target: int) -> str:
    """The prompt of a problem with its numbers in this order."""
    return f"numbers {' '.join(map(str, numbers))} target {target} think"


def num_prompt_tokens(options: CountdownOptions) -> int:
    """Tokens of every prompt: the numbers, the target and three words."""
    return options.num_numbers + 4


def num_attempt_tokens(options: CountdownOptions) -> int:
    """Tokens of an attempt with its verdict: 10 for three numbers."""
    return 4 * options.num_numbers - 2


def attempt_text(attempt: Attempt, verdict: str) -> str:
    """An attempt with its verdict. Example: ``3 + 5 = 8 - 7 = 1 ok``."""
    return f"{steps_text(attempt)} {verdict}"


def steps_text(attempt: Attempt) -> str:
    """An attempt without a verdict. Example: ``3 + 5 = 8 - 7 = 1``."""
    text = str(attempt.operands[0])
    for operator, operand, value in zip(
        attempt.operators, attempt.operands[1:], attempt.values, strict=True
    ):
        text += f" {operator} {operand} = {value}"
    return text


def answer_text(attempt: Attempt) -> str:
    """The answer that states an attempt. Example: ``<answer> ( 3 + 5 ) - 7 </answer> <end>``."""
    text = str(attempt.operands[0])
    for index, operator in enumerate(attempt.operators):
        if index:
            text = f"( {text} )"
        text += f" {operator} {attempt.operands[index + 1]}"
    return f"{OPEN_ANSWER} {text} {CLOSE_ANSWER} {END}"


def problem_text(numbers: Sequence[int], target: int) -> str:
    """The problem as ``Prompt.problem`` holds it. Example: ``3 5 7 : 22``."""
    return f"{' '.join(map(str, numbers))} : {target}"


def read_problem(text: str) -> tuple[tuple[int, ...], int]:
    """Numbers and target of ``problem_text``."""
    numbers, target = text.split(" : ")
    return tuple(map(int, numbers.split())), int(target)
