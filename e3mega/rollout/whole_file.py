"""Files that appear whole or not at all: written under another name, then renamed."""

import os
from pathlib import Path

from e3mega.plan.paths import unfinished


def write_whole(path: Path, data: bytes) -> None:
    """Put ``data`` at ``path`` in one rename, flushed to the disk; parent folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = unfinished(path)
    with partial.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def text_if_there(path: Path) -> str:
    """The text of a file that others write and remove; empty when it is not there."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
