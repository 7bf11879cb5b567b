"""Shows how far a grading is."""

import sys
import time

from e3mega.evaluate.grade_journal import GradedProblem
from e3mega.run.measuring.progress_line import ProgressLine


class GradeProgress:
    """Counts what is graded. Example: ``GradeProgress(num_problems=512, num_done=0)``."""

    def __init__(self, num_problems: int, num_done: int) -> None:
        self._num_problems = num_problems
        self._num_reused = num_done
        self._num_graded = 0
        self._num_tokens = 0
        self._rates = 0.0
        self._start = time.monotonic()
        self._line = ProgressLine()
        if num_done:
            print(f"{num_done} of {num_problems} problems were graded before", file=sys.stderr)

    def add(self, graded: GradedProblem) -> None:
        """One more problem is graded."""
        self._num_graded += 1
        self._num_tokens += sum(sample.num_tokens for sample in graded.samples)
        self._rates += graded.pass_rate
        if self._line.is_due:
            self._show()

    def _show(self) -> None:
        seconds = max(1e-9, time.monotonic() - self._start)
        num_done = self._num_reused + self._num_graded
        left_s = (self._num_problems - num_done) * seconds / self._num_graded
        self._line.show(
            f"{num_done}/{self._num_problems} problems, {self._num_tokens / seconds:.0f} tokens/s, "
            f"pass rate {self._rates / self._num_graded:.3f}, {left_s / 60:.0f} min left"
        )

    def close(self) -> None:
        """Show the last state and end the line."""
        if self._num_graded:
            self._show()
        self._line.close()
