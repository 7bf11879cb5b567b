"""Types of numbers on the command line: argparse refuses what is none, with the option's name."""

import argparse
import math


def whole(word: str) -> int:
    """A whole number, 0 included."""
    if not word.isdecimal():
        raise argparse.ArgumentTypeError(f"{word!r} is no whole number of 0 or more")
    return int(word)


def positive(word: str) -> int:
    """A whole number above 0."""
    if not word.isdecimal() or int(word) == 0:
        raise argparse.ArgumentTypeError(f"{word!r} is no whole number above 0")
    return int(word)


def tokens(word: str) -> int:
    """A number of tokens; ``4k`` is 4096."""
    from e3mega.options import parse_token_count

    value = parse_token_count(int(word) if word.isdecimal() else word)
    if not isinstance(value, int) or value <= 0:
        raise argparse.ArgumentTypeError(f"{word!r} is no number of tokens; write 8192 or 8k")
    return value


def several_tokens(words: str) -> tuple[int, ...]:
    """Numbers of tokens, ascending, from words with commas between them."""
    return tuple(sorted({tokens(word) for word in words.split(",")}))


def several(words: str) -> tuple[int, ...]:
    """Whole numbers, ascending, from words with commas between them."""
    return tuple(sorted({whole(word) for word in words.split(",")}))


def above_zero(word: str) -> float:
    """A finite number above 0, such as a temperature."""
    value = _number(word)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{word!r} is no number above 0")
    return value


def share(word: str) -> float:
    """A number from 0 to 1."""
    value = _number(word)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{word!r} is no number from 0 to 1")
    return value


def nucleus(word: str) -> float:
    """A number above 0, at most 1: the mass of the likeliest tokens that are sampled."""
    value = _number(word)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{word!r} is no number above 0 and at most 1")
    return value


def _number(word: str) -> float:
    try:
        return float(word)
    except ValueError:
        return math.nan
