"""The run folder while a supervisor works in it: its lock, leftovers and full disks."""

import errno
import fcntl
import os
import shutil
import socket
from pathlib import Path

from e3mega.errors import E3Error
from e3mega.plan.paths import RunPaths
from e3mega.run.segments import remove_segments

_LOW_DISK_BYTES = 64 << 20
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


def open_folder(run_dir: Path) -> None:
    """Make the folder itself; raises E3Error when that is not possible."""
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(run_dir, error) from error


def take_lock(paths: RunPaths) -> int:
    """Hold the run's lock; the open file that holds it until it and its copies are closed.

    Raises E3Error naming the process that holds it.
    """
    try:
        lock = os.open(paths.lock, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise unwritable(paths.run_dir, error) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.read(lock, 256).decode(errors="replace").strip()
        os.close(lock)
        raise E3Error(
            f"{shown(paths.run_dir)} is at work already ({holder or 'no holder named'}); "
            "wait for it, or stop it with Ctrl-C"
        ) from error
    os.ftruncate(lock, 0)
    os.write(lock, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
    return lock


def clear_leftovers(paths: RunPaths) -> None:
    """Remove what an attempt that was killed may have left: addresses, orders, shared memory."""
    shutil.rmtree(paths.address(0).parent, ignore_errors=True)
    remove_shared_memory(paths, 0)
    paths.order.unlink(missing_ok=True)
    paths.stop_request.unlink(missing_ok=True)


def remove_shared_memory(paths: RunPaths, node: int) -> None:
    """Free weights on their way to servers, and segments of a node's jobs that were killed.

    No process of the run may be alive on the node.
    """
    shutil.rmtree(paths.shared_memory, ignore_errors=True)
    shutil.rmtree(paths.transfer, ignore_errors=True)
    remove_segments(paths.segments(node))


def disk_warning(run_dir: Path) -> list[str]:
    """A line that says so when the disk of the run folder is as good as full."""
    free = shutil.disk_usage(run_dir).free
    if free >= _LOW_DISK_BYTES:
        return []
    return [f"the disk of {shown(run_dir)} has {free >> 20} MiB left: free space before you resume"]


def shown(path: Path) -> str:
    """The path as a person types it: relative when it lies below the working folder."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def unwritable(run_dir: Path, error: OSError) -> E3Error:
    """The error for a run folder that takes no writing, with what to change."""
    if error.errno in _NO_SPACE:
        mend = "free space on its disk, or choose a folder on another with --run-dir"
    else:
        mend = "choose a folder that you may write to with --run-dir"
    return E3Error(f"cannot write the run folder {shown(run_dir)}: {error.strerror}; {mend}")
