"""Append-only JSON-lines metrics that survive a kill at any byte."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]


class MetricsWriter:
    """Appends one JSON object a line; each has ``time`` (seconds since the epoch) and ``event``."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        torn = path.exists() and path.stat().st_size > 0 and not path.read_bytes().endswith(b"\n")
        self._file = path.open("a", encoding="utf-8")
        if torn:
            self._file.write("\n")

    def write(self, event: str, **values: Json) -> None:
        """Append one event; the line is handed to the kernel before this returns."""
        line = json.dumps({"time": time.time(), "event": event, **values}, allow_nan=True)
        self._file.write(line + "\n")
        self._file.flush()

    def close(self) -> None:
        """Flush to the disk and close."""
        os.fsync(self._file.fileno())
        self._file.close()


def read_metrics(path: Path) -> Iterator[dict[str, Json]]:
    """Yield the events of a metrics file in order; a torn line is passed over."""
    if not path.exists():
        return
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            try:
                event = json.loads(line)
            except json.JSONDecodeError:
                continue
            if isinstance(event, dict):
                yield event
