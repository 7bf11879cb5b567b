"""Why a completion could not be graded."""

from enum import Enum


class Failure(Enum):
    """Why a completion could not be graded; it earns nothing."""

    NONE = ""
    """It was graded."""
    UNFINISHED = "unfinished"
    """It does not end within its budget, or never ends its thinking."""
    NO_ANSWER = "no_answer"
    """It states no answer in the form that the task asks for."""
    TOO_LONG = "too_long"
    """Its answer is longer than any that is looked at."""
    UNREADABLE = "unreadable"
    """Its answer cannot be parsed."""
    TIME = "time"
    """Grading took longer than its limit; the worker was killed."""
    MEMORY = "memory"
    """Grading needed more memory than its limit."""
    FORBIDDEN = "forbidden"
    """Grading tried to write a file, start a program or open a connection."""
    CRASH = "crash"
    """The grader raised an error, or its worker died."""
