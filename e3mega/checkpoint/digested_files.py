"""Files that are digested while they are written, by a thread beside the writer."""

import hashlib
import queue
import threading
from collections.abc import Buffer, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from e3mega.checkpoint.early_writeback import EarlyWriteback
from e3mega.checkpoint.manifest import FileFacts

MAX_UNDIGESTED = 4
"""Appends whose bytes may be needed at once: one under way, two that wait, one being digested."""


@dataclass(frozen=True, slots=True)
class _Open:
    file: BinaryIO
    writeback: EarlyWriteback
    digest: Any = field(default_factory=hashlib.sha256)


class DigestedFiles:
    """New files of one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: dict[str, _Open] = {}
        self._waiting: queue.Queue[tuple[Any, Sequence[Buffer]] | None]
        self._waiting = queue.Queue(MAX_UNDIGESTED - 2)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def append(self, name: str, parts: Sequence[Buffer]) -> tuple[int, int]:
        """Append bytes to a file; the byte they begin at, and their number.

        They are digested later and not copied: they must stay as they are until
        ``MAX_UNDIGESTED - 1`` further calls have returned.
        """
        if name not in self._open:
            file = (self._folder / name).open("wb")
            self._open[name] = _Open(file, EarlyWriteback(file))
        each = self._open[name]
        self._waiting.put((each.digest, parts))
        start = each.file.tell()
        for part in parts:
            each.file.write(part)
        each.writeback.advance()
        return start, each.file.tell() - start

    def close(self) -> dict[str, FileFacts]:
        """Close the files; size and digest of each."""
        self._waiting.put(None)
        self._thread.join()
        facts: dict[str, FileFacts] = {}
        for name, each in self._open.items():
            facts[name] = FileFacts(each.file.tell(), each.digest.hexdigest())
            each.file.close()
        return facts

    def _run(self) -> None:
        while (item := self._waiting.get()) is not None:
            digest, parts = item
            for part in parts:
                digest.update(part)
