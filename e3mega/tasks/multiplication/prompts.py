"""Multiplication's prompts in plain text, and every word of its language."""

import re

HIT, MISS = "ok", "no"
BASE = (
    "Multiply {a} and {b}. Please reason step by step, and put your final answer within "
    "\\boxed{{}}."
)
ASK_FOR_CHECKS = (
    " At each step, try to verify your response if possible and prefix the line with “Check:”."
)
_TRACE_WORDS = ("Check", "mod", "and", HIT, MISS, "\\boxed")


def words() -> tuple[str, ...]:
    """Every word of prompts and traces, for a tokenizer of the task's own."""
    found = re.findall(r"\\[a-z]+|[A-Za-z]+", BASE + ASK_FOR_CHECKS)
    return tuple(dict.fromkeys((*found, "“", "”", *_TRACE_WORDS)))
