"""Tells the planner the sizes of a task from its options alone, without numpy or data."""

from e3mega.tasks.countdown import prompts as countdown_prompts
from e3mega.tasks.countdown.language import (
    num_attempt_tokens,
    num_prompt_tokens,
    vocabulary,
)
from e3mega.tasks.countdown.options import CountdownOptions
from e3mega.tasks.countdown.problems import all_problems
from e3mega.tasks.countdown.text import CountdownTextOptions
from e3mega.tasks.multiplication import prompts as multiplication_prompts
from e3mega.tasks.multiplication.options import MultiplicationOptions
from e3mega.tasks.options import TaskOptions
from e3mega.tasks.own.tokenizer import own_vocabulary


def max_prompt_tokens(options: TaskOptions) -> int:
    """Tokens of the longest prompt; tasks of plain text leave longer ones out."""
    if isinstance(options, CountdownOptions):
        return num_prompt_tokens(options)
    return options.max_prompt_tokens


def max_trace_tokens(options: TaskOptions) -> int:
    """Tokens of the longest supervised trace with its prompt.

    Countdown: ``prompt + attempts + answer``, where the answer repeats an attempt's numbers and
    operators (2n - 1), puts n - 2 pairs of parentheses around them, and adds its two words and
    the end. Tasks of plain text leave longer ones out.
    """
    if not isinstance(options, CountdownOptions):
        return options.max_prompt_tokens + options.max_trace_tokens
    return (
        num_prompt_tokens(options)
        + options.max_trace_attempts * num_attempt_tokens(options)
        + _num_answer_tokens(options)
    )


def mean_trace_tokens(options: TaskOptions) -> float | None:
    """Mean tokens of a supervised trace without its prompt; None where only the data can tell.

    Countdown: a trace makes ``(1 - (1 - s)^m) / s`` attempts on average if it stops behind each
    with the probability s and behind number m at the latest; then it answers, or gives up in two
    words. Without verification it is one attempt without a verdict, and its answer.
    """
    if not isinstance(options, CountdownOptions):
        return None
    answer, attempt = _num_answer_tokens(options), num_attempt_tokens(options)
    if not options.trace_has_verification:
        return attempt - 1 + answer
    stop, most = options.trace_stop_frac, options.max_trace_attempts
    num_attempts = (1 - (1 - stop) ** most) / stop
    hit = options.trace_hit_frac
    return num_attempts * attempt + hit * answer + (1 - hit) * 2


def _num_answer_tokens(options: CountdownOptions) -> int:
    n = options.num_numbers
    return 2 * n - 1 + 2 * (n - 2) + 3


def own_words(options: TaskOptions) -> tuple[str, ...]:
    """Words of a task of plain text whose language is known; none if it is any language."""
    if isinstance(options, CountdownTextOptions):
        return countdown_prompts.words()
    if isinstance(options, MultiplicationOptions):
        return multiplication_prompts.words()
    return ()


def vocabulary_size(options: TaskOptions) -> int:
    """Words of the task's own tokenizer, 0 if it has none; ``model.vocab_size`` must not be
    smaller where the run starts from random weights."""
    if isinstance(options, CountdownOptions):
        return len(vocabulary(options))
    words = own_words(options)
    return len(own_vocabulary(words)) if words else 0


def num_held_out_problems(options: TaskOptions) -> int | None:
    """Held-out problems there are for evaluation; None where only the data can tell."""
    if isinstance(options, CountdownOptions):
        halves = all_problems(options).values()
        return 2 * min(round(len(problems) * options.held_out_frac) for problems in halves)
    if options.problems is not None:
        return None
    if isinstance(options, CountdownTextOptions):
        return options.num_held_out * len(options.num_numbers)
    if isinstance(options, MultiplicationOptions):
        return options.num_held_out * len(options.num_digits)
    return None
