"""The finished groups of one round, on disk as they finish."""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from e3mega.plan.paths import RunPaths
from e3mega.rollout.records import Group, GroupRequest, Purpose
from e3mega.rollout.rows import read_groups, write_groups

_GROUP = TypeAdapter(Group)
_FLUSH_EVERY_S = 1.0
_BEGUN = b'{"begun":true}\n'


@dataclass(frozen=True, slots=True)
class RoundState:
    """What of a round is on disk. Example: ``RoundState({0: group}, num_redrawn=31)``."""

    finished: dict[int, Group]
    """By index; these are not generated again."""
    num_redrawn: int
    """Requests that an earlier attempt had sent and that must be sent again."""


class GroupStore:
    """Keeps the groups of one purpose, stage and round; belongs to one process at a time.

    ``begin`` before anything is generated, ``append`` for each group as it finishes, ``close``
    when all have. A kill at any byte loses at most the group being written.
    """

    def __init__(
        self,
        paths: RunPaths,
        *,
        purpose: Purpose,
        stage: str,
        round: int,
        text: Callable[[Sequence[int]], str],
    ) -> None:
        self._rows = paths.round_rows(purpose.value, stage, round)
        self._journal = paths.round_journal(purpose.value, stage, round)
        self._purpose, self._stage, self._round = purpose, stage, round
        self._text = text
        self._flushed_at = time.monotonic()

    def finished(self, requests: Sequence[GroupRequest]) -> dict[int, Group]:
        """Groups on disk that answer one of these requests in full, by index.

        A group made under another version, seed, budget or prompt is not among them, nor one
        with fewer samples than asked for.
        """
        wanted = {request.index: request for request in requests}
        groups = [*read_groups(self._rows)] if self._rows.exists() else []
        groups += _read_journal(self._journal)
        return {
            group.request.index: group
            for group in groups
            if wanted.get(group.request.index) == group.request
            and len(group.rollouts) == group.request.num_samples
        }

    def begin(self, requests: Sequence[GroupRequest]) -> RoundState:
        """What an earlier attempt left of the round; after it, ``append`` may be called."""
        was_begun = self._journal.exists() or self._rows.exists()
        finished = self.finished(requests)
        if not was_begun:
            self._append_line(_BEGUN)
        return RoundState(finished, len(requests) - len(finished) if was_begun else 0)

    def append(self, group: Group) -> None:
        """Put a finished group into the journal as one JSON line.

        The kernel has it before this returns, so it outlives a kill of any process. It is forced
        to the disk at most once a second (each takes 4-7 ms here, an evaluation has 512 groups),
        so a crash of the machine loses a second.
        """
        self._append_line(_GROUP.dump_json(group) + b"\n")

    def _append_line(self, line: bytes) -> None:
        self._journal.parent.mkdir(parents=True, exist_ok=True)
        with self._journal.open("a+b") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(0, end - 1))
            if end and file.read(1) != b"\n":
                line = b"\n" + line
            file.write(line)
            file.flush()
            if time.monotonic() - self._flushed_at >= _FLUSH_EVERY_S:
                os.fdatasync(file.fileno())
                self._flushed_at = time.monotonic()

    def close(self, groups: Sequence[Group]) -> Path:
        """Write the round's Parquet file, all its groups given, and remove the journal.

        A round that was closed already is left as it is.
        """
        if self._journal.exists() or not self._rows.exists():
            write_groups(
                self._rows,
                groups,
                purpose=self._purpose,
                stage=self._stage,
                round=self._round,
                text=self._text,
            )
            self._journal.unlink(missing_ok=True)
        return self._rows


def _read_journal(path: Path) -> list[Group]:
    """Groups of a journal in order; a torn line is passed over, its group generated again."""
    if not path.exists():
        return []
    groups: list[Group] = []
    for line in path.read_bytes().splitlines():
        if line == _BEGUN.strip():
            continue
        try:
            groups.append(_GROUP.validate_json(line))
        except ValidationError:
            continue
    return groups
