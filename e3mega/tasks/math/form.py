"""Mathematics' problems, prompt, attempts and answers."""

import json
from collections.abc import Sequence

from e3mega.tasks.failure import Failure
from e3mega.tasks.math.answers import find_answer
from e3mega.tasks.math.options import MathOptions
from e3mega.tasks.math.source import load_problems
from e3mega.tasks.text_form import Reading, TextAttempt, TraceText
from e3mega.tasks.text_problems import ProblemSet

# By these the e3 paper's released code counts verifications in a response.
_ANYWHERE = ("wait", "approximation")
_AT_START = (
    "but wait",
    "alternatively",
    "is there another way",
    "but let me double",
    "but hold on",
)


class MathForm:
    """See ``text_form.TextForm``. A problem is JSON: its text and its answers."""

    grader: str | None = "e3mega.tasks.math.grader"
    answer_cue = "\n</think>\n\n\\boxed{"
    verdicts: tuple[str, ...] = ()

    def __init__(self, options: MathOptions, seed: int) -> None:
        self._options = options
        self._seed = seed

    def problems(self) -> ProblemSet:
        """The data set's problems, read by a process that has ``datasets``."""
        return load_problems(self._options, self._seed)

    def prompt(self, problem: str) -> str:
        """The problem inside the prompt of the options."""
        return self._options.prompt.replace("{problem}", json.loads(problem)["problem"])

    def attempts(self, problem: str, response: str) -> Sequence[TextAttempt]:
        """Lines that reconsider, as the paper counts them; whether they are right is not known."""
        found: list[TextAttempt] = []
        end = 0
        for line in response.splitlines(keepends=True):
            end += len(line)
            text = line.strip().lower()
            if text.startswith(_AT_START) or any(word in text for word in _ANYWHERE):
                found.append(TextAttempt(end, text, False, False, is_checked=False))
        return found

    def read(self, problem: str, response: str) -> Reading:
        """The answer in the last box; the worker says what it earns."""
        answer, failure = find_answer(response, needs_think_end=self._options.needs_think_end)
        return Reading(answer, failure, None if failure is Failure.NONE else 0.0)

    def truth(self, problem: str) -> str:
        """The right answers as a JSON list."""
        return json.dumps(json.loads(problem)["answers"])

    def trace(self, problem: str, index: int) -> TraceText | None:
        """None: traces come from a file."""
        return None

    def probe(self, problem: str, index: int, *, is_hit: bool) -> str | None:
        """None: free text has no verdict that could be asked for."""
        return None
