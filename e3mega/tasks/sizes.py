"""Tells the planner the sizes of a task from its options alone, without numpy or data."""

from e3mega.tasks.countdown_language import (
    num_attempt_tokens,
    num_prompt_tokens,
    vocabulary,
)
from e3mega.tasks.countdown_problems import all_problems
from e3mega.tasks.options import TaskOptions


def max_prompt_tokens(options: TaskOptions) -> int:
    """Tokens of the longest prompt."""
    return num_prompt_tokens(options)


def max_trace_tokens(options: TaskOptions) -> int:
    """Tokens of the longest supervised trace with its prompt.

    ``prompt + attempts + answer``: the answer repeats an attempt's numbers and operators (2n - 1),
    puts n - 2 pairs of parentheses around them, and adds its two words and the end.
    """
    n = options.num_numbers
    answer = 2 * n - 1 + 2 * (n - 2) + 3
    return (
        num_prompt_tokens(options)
        + options.max_trace_attempts * num_attempt_tokens(options)
        + answer
    )


def vocabulary_size(options: TaskOptions) -> int:
    """Words of the task's tokenizer; ``model.vocab_size`` must not be smaller."""
    return len(vocabulary(options))


def num_held_out_problems(options: TaskOptions) -> int:
    """Held-out problems there are for evaluation, both slices together and evenly."""
    halves = all_problems(options).values()
    return 2 * min(round(len(problems) * options.held_out_frac) for problems in halves)
