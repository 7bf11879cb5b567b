r"""Finds the answer of a mathematics response: behind ``</think>``, inside ``\boxed{}``.

The rules are those of the e3 paper's released code: a response that never ends its thinking
earns nothing, however it goes on; the answer is what the last ``\boxed{}`` of the whole response
holds.
"""

from e3mega.tasks.failure import Failure

THINK_END = "</think>"
MAX_ANSWER_CHARACTERS = 400
"""The answers of contests are far shorter; nothing longer reaches a parser."""
_BOXES = (r"\boxed", r"\fbox")


def find_answer(response: str, *, needs_think_end: bool) -> tuple[str, Failure]:
    r"""The text of the last box, or why there is none; linear in the length of the response.

    Example: ``find_answer(r"so </think> \boxed{\frac{1}{2}}", needs_think_end=True)`` is
    ``(r"\frac{1}{2}", Failure.NONE)``.
    """
    if needs_think_end and THINK_END not in response:
        return "", Failure.UNFINISHED
    start, box = max((response.rfind(box), box) for box in _BOXES)
    if start < 0:
        return "", Failure.NO_ANSWER
    # One character more than allowed, with braces that may stand around it.
    inside = response[start + len(box) : start + len(box) + 2 * MAX_ANSWER_CHARACTERS].lstrip()
    if not inside.startswith("{"):
        # TeX takes the next token: \boxed 7, \boxed\pi.
        words = inside.split(maxsplit=1)
        return (words[0].strip("$.,"), Failure.NONE) if words else ("", Failure.NO_ANSWER)
    end = _closing(inside)
    if end < 0:
        is_long = len(inside) > MAX_ANSWER_CHARACTERS
        return "", Failure.TOO_LONG if is_long else Failure.NO_ANSWER
    answer = inside[1:end].strip()
    if len(answer) > MAX_ANSWER_CHARACTERS:
        return "", Failure.TOO_LONG
    return (answer, Failure.NONE) if answer else ("", Failure.NO_ANSWER)


def _closing(text: str) -> int:
    """Where the brace at the start is closed, -1 if it is not; ``\\{`` and ``\\}`` do not count."""
    depth, at = 0, 0
    while at < len(text):
        if text[at] == "\\":
            at += 2
            continue
        depth += (text[at] == "{") - (text[at] == "}")
        if depth == 0:
            return at
        at += 1
    return -1
