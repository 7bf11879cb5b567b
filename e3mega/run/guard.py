"""The process that a person starts: it runs the supervisor and ends whatever that leaves.

Consumes: signals of the terminal, the supervisor's exit status. Produces: the run's exit status.
The supervisor can be killed at any time: its descendants then become this process's children
and are killed here. If this process is killed instead, the kernel sends the supervisor SIGTERM.
"""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from types import FrameType

import psutil

from e3mega.run.processes import adopt_orphans, die_with_parent, kill_descendants

_FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1)
_NUM_PATIENT_SIGNALS = 3


def run_guarded(argv: Sequence[str], *, keep_open: tuple[int, ...]) -> int:
    """Run the supervisor, forward signals to it, and kill what outlives it; its exit status.

    A negative status is the signal that killed the supervisor. ``keep_open`` are open files it
    inherits. Other children of this process are left alone.
    """
    adopt_orphans()
    spare = frozenset(child.pid for child in psutil.Process().children(recursive=True))
    received: list[int] = []
    handles: list[subprocess.Popen[bytes]] = []

    def forward(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        for handle in handles:
            # A supervisor that does not obey is ended; what it leaves is killed below.
            patient = len(received) <= _NUM_PATIENT_SIGNALS
            handle.send_signal(number if patient else signal.SIGKILL)

    former = _set_handlers(forward)
    try:
        # In a process group of its own, the supervisor gets Ctrl-C from here and only once.
        child = subprocess.Popen(
            [sys.executable, "-m", *argv],
            pass_fds=keep_open,
            process_group=0,
            preexec_fn=die_with_parent(signal.SIGTERM),
        )
        handles.append(child)
        if received:
            child.send_signal(received[0])
        status = child.wait()
        kill_descendants(spare=spare)
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
    return status


def end_by_signal(number: int) -> int:
    """The exit status by which a shell knows that a signal ended a command."""
    return 128 + number


_Handler = Callable[[int, FrameType | None], object] | int | signal.Handlers | None


def _set_handlers(
    forward: Callable[[int, FrameType | None], None],
) -> dict[signal.Signals, _Handler]:
    """Install the handler where Python allows it; the former ones."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    # nohup ignores SIGHUP, and that is meant.
    has_nohup = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    chosen = [number for number in _FORWARDED if not (has_nohup and number is signal.SIGHUP)]
    return {number: signal.signal(number, forward) for number in chosen}


def parent_is_gone(parent: int) -> bool:
    """Whether the process that started this one has died."""
    return os.getppid() != parent
