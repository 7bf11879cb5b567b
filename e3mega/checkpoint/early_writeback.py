"""Has the disk begin on a file while more of it is written, so that its sync waits for little."""

import os
from typing import BinaryIO

_STRETCH_BYTES = 16 << 20


class EarlyWriteback:
    """Follows a file that is written from its start to its end."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._begun = 0

    def advance(self) -> None:
        """Hand what was written since the last time to the disk, if it is worth a request."""
        end = self._file.tell()
        if end - self._begun < _STRETCH_BYTES:
            return
        self._file.flush()
        # The kernel starts to write the stretch at once, and drops of it what the disk has
        # already: nothing, since it was in memory alone until now.
        os.posix_fadvise(
            self._file.fileno(), self._begun, end - self._begun, os.POSIX_FADV_DONTNEED
        )
        self._begun = end
