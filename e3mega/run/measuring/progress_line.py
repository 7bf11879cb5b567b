"""One line that is drawn again on a terminal, else printed every 10 s."""

import sys
import time

_PERIOD_S = {True: 0.5, False: 10.0}


class ProgressLine:
    """Writes to standard error. Example: ``line.show("12/64")`` whenever ``line.is_due``."""

    def __init__(self) -> None:
        self._is_terminal = sys.stderr.isatty()
        self._shown = 0.0
        self._width = 0

    @property
    def is_due(self) -> bool:
        """Whether the last line is old enough for a new one."""
        return time.monotonic() - self._shown >= _PERIOD_S[self._is_terminal]

    def show(self, words: str) -> None:
        """Draw over the last line, or print another."""
        self._shown = time.monotonic()
        if self._is_terminal:
            # Spaces cover what is left of a longer line.
            print(f"\r{words:<{self._width}}", end="", file=sys.stderr, flush=True)
            self._width = len(words)
        else:
            print(words, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Leave the last line where it is."""
        if self._is_terminal and self._width:
            print(file=sys.stderr)
            self._width = 0
