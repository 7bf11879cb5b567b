"""Follows a JSON-lines file that another process appends to."""

import json
from collections.abc import Iterator
from pathlib import Path

from e3mega.metrics import Json


class MetricsTail:
    """Gives each complete line of a metrics file once, from the start of the file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def new_events(self) -> Iterator[dict[str, Json]]:
        """The events that were appended since the last call; torn lines are passed over."""
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._offset)
            data = file.read()
        complete = data[: data.rfind(b"\n") + 1]
        self._offset += len(complete)
        for line in complete.splitlines():
            try:
                event = json.loads(line)
            except json.JSONDecodeError:
                continue
            if isinstance(event, dict):
                yield event
