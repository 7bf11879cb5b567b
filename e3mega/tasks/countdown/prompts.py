"""Countdown's prompts in plain text, and every word of its language."""

import re

HIT, MISS = "ok", "no"
BASE = (
    "A conversation between User and Assistant. The user asks a question, and the Assistant "
    "solves it. The assistant first thinks about the reasoning process in the mind and then "
    "provides the user with the answer.\nUser: Using the numbers {numbers}, create an equation "
    "that equals {target}. You can use basic arithmetic operations (+, -, *, /) and each number "
    "can only be used once. Show your work in <think> </think> tags. And return the final answer "
    "in <answer> </answer> tags, for example <answer> (1 + 2) / 3 </answer>.\nAssistant: Let me "
    "solve this step by step."
)
SHORT = "numbers {numbers} target {target}"
_TRACE_WORDS = ("Try", "Check", HIT, MISS, "none")


def words() -> tuple[str, ...]:
    """Every word of prompts and traces, for a tokenizer of the task's own."""
    found = re.findall(r"</?[a-z]+>|[A-Za-z]+", f"{BASE} {SHORT}".format(numbers="", target=""))
    return tuple(dict.fromkeys((*found, *_TRACE_WORDS)))
