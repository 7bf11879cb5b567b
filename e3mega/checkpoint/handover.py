"""Hands what a forked process made to the process that forked it, through a nameless file."""

import pickle
import queue
import tempfile
from typing import Any


class Handover:
    """One value at a time, put on one side of a fork and taken on the other.

    A queue of ``multiprocessing`` would need a process of its own, which outlives a killed rank,
    or a pipe, which blocks the writer as soon as it is full. It has the two methods that
    Megatron's writer uses; made before the fork.
    """

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115  # open as long as this object lives

    def put(self, value: object) -> None:
        """Leave a value; both sides of a fork share the file and its position."""
        self._file.seek(0)
        self._file.truncate()
        pickle.dump(value, self._file)
        self._file.flush()

    def get_nowait(self) -> Any:
        """Take the value; raises ``queue.Empty`` when the other side left none."""
        self._file.seek(0)
        try:
            value = pickle.load(self._file)
        except EOFError as error:
            raise queue.Empty from error
        self._file.seek(0)
        self._file.truncate()
        return value
