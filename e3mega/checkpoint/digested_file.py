"""A file that is digested while it is written, by a thread beside the writer."""

import hashlib
import queue
import threading
from collections.abc import Buffer
from pathlib import Path

from e3mega.checkpoint.manifest import FileFacts

_MAX_WAITING = 2
"""Writes that may wait for the digest; each holds its bytes in memory."""


class DigestedFile:
    """A new file for writing."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._digest = hashlib.sha256()
        self._waiting: queue.Queue[Buffer | None] = queue.Queue(_MAX_WAITING)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def write(self, data: Buffer) -> int:
        """Write bytes, which must stay as they are: they are digested later, and not copied."""
        self._waiting.put(data)
        return self._file.write(data)

    def tell(self) -> int:
        """Bytes written so far."""
        return self._file.tell()

    def flush(self) -> None:
        """Hand what was written to the kernel."""
        self._file.flush()

    def close(self) -> FileFacts:
        """Close the file; its size and digest."""
        self._waiting.put(None)
        self._thread.join()
        num_bytes = self._file.tell()
        self._file.close()
        return FileFacts(num_bytes, self._digest.hexdigest())

    def _run(self) -> None:
        while (data := self._waiting.get()) is not None:
            self._digest.update(data)
