"""Whether two mathematics answers are equal; runs in grading workers only.

First as strings after the normalization that the MATH data set's scoring is known for, then by
math-verify, which parses LaTeX with a grammar of its own and compares with sympy. sympy's string
parser, which evaluates Python, is never reached: plain expressions are read as LaTeX too.
"""

import json
import logging
import re
from typing import Any

from latex2sympy2_extended.latex2sympy2 import NormalizationConfig
from math_verify import LatexExtractionConfig, parse, verify

# Time limits are the pool's: a worker that hangs is killed from outside.
logging.getLogger("math_verify").setLevel(logging.ERROR)

_LATEX = (
    LatexExtractionConfig(
        boxed_match_priority=0,
        normalization_config=NormalizationConfig(
            basic_latex=True,
            units=True,
            malformed_operators=True,
            nits=True,
            boxed="last",
            equations=True,
        ),
    ),
)
_DROPPED = re.compile(r"\\left|\\right|\\!|\\,|\\;|\\:|\\ |\\\$|\$|\\%|%|~|\s|^\.|\.$")
_RENAMED = (
    (r"\dfrac", r"\frac"),
    (r"\tfrac", r"\frac"),
    (r"^{\circ}", ""),
    (r"^\circ", ""),
    (r"\{", "{"),
    (r"\}", "}"),
)
_TEXT = re.compile(r"\\(?:text|textbf|mathrm|mbox)\{([^{}]*)\}")


def normalized(answer: str) -> str:
    r"""The answer without spacing, units of angle, percent signs and text commands.

    Example: ``normalized(r"\dfrac{1}{2} ") == r"\frac{1}{2}"``.
    """
    text = _TEXT.sub(r"\1", answer)
    for name, other in _RENAMED:
        text = text.replace(name, other)
    return _DROPPED.sub("", text)


def grade(truth: str, answer: str) -> tuple[float, str]:
    """1 and no failure if the answer equals one of the truths, which are a JSON list.

    0 if not; ``unreadable`` if the answer cannot be read.
    """
    truths: list[str] = json.loads(truth)
    if normalized(answer) in map(normalized, truths):
        return 1.0, ""
    got = _parsed(answer)
    if not got:
        return 0.0, "unreadable"
    is_equal = any(
        verify(_parsed(each), got, timeout_seconds=0, raise_on_error=True) for each in truths
    )
    return float(is_equal), ""


def _parsed(answer: str) -> list[Any]:
    boxed = r"\boxed{" + answer + "}"
    return parse(boxed, _LATEX, fallback_mode="no_fallback", parsing_timeout=0)


# The parser builds its tables when it first reads; half a second that no answer should pay.
grade(json.dumps([r"\frac{1}{2}"]), "0.5")
