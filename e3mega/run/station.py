"""One node's place in a run: it reports to the board, and notes what its processes leave."""

import os
import socket
import time

from e3mega.plan.paths import RunPaths
from e3mega.run.board import Board, JobReport, NodeReport
from e3mega.run.segments import note_segments

POLL_S = 0.2
BEAT_S = 1.0
"""Between reports of a node."""
NOTE_PERIOD_S = 2.0
"""Between looks at the shared memory and the processes of the jobs."""


class Station:
    """A node's reports. ``launch`` names the start that it belongs to."""

    def __init__(self, paths: RunPaths, *, node: int, launch: str) -> None:
        self.board = Board(paths, launch)
        self.node = node
        self.parent = os.getppid()
        """The command that guards this supervisor; asked for before any job starts, so that its
        end is noticed whenever it comes."""
        self._paths = paths
        self._launch = launch
        self._beat = 0
        self._beat_due = 0.0
        self._note_due = 0.0

    def beat(
        self,
        attempt: int,
        jobs: tuple[JobReport, ...],
        *,
        reason: str = "",
        is_stated: bool = False,
    ) -> None:
        """Report, when it is time; at once when a reason is given."""
        now = time.monotonic()
        if now >= self._note_due:
            self._note_due = now + NOTE_PERIOD_S
            note_segments(self._paths.segments(self.node))
        if now < self._beat_due and not reason:
            return
        self._beat_due = now + BEAT_S
        self._beat += 1
        self.board.publish(
            NodeReport(
                launch=self._launch,
                node=self.node,
                host=socket.gethostname(),
                pid=os.getpid(),
                attempt=attempt,
                beat=self._beat,
                time=time.time(),
                jobs=jobs,
                reason=reason,
                is_stated=is_stated,
            )
        )
