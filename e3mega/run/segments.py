"""Shared memory segments of processes that are killed before they can remove them."""

from pathlib import Path

from e3mega.rollout.whole_file import write_whole
from e3mega.run.processes import living_descendants

_SHARED = Path("/dev/shm")
# Python's segments and semaphores, torch's and NCCL's; vLLM's queues are Python segments, and
# vLLM kills the resource tracker that would remove them.
_PREFIXES = ("psm_", "sem.", "torch_", "nccl-")


def note_segments(record: Path) -> None:
    """Add the segments that processes below this one have mapped to the record, a name a line."""
    known = _recorded(record)
    mapped: set[str] = set()
    for process in living_descendants():
        mapped |= _mapped_names(process.pid)
    if not mapped <= known:
        write_whole(record, "".join(f"{name}\n" for name in sorted(known | mapped)).encode())


def remove_segments(record: Path) -> None:
    """Remove what was recorded and is still there, then the record; the processes are dead."""
    for name in _recorded(record):
        (_SHARED / name).unlink(missing_ok=True)
    record.unlink(missing_ok=True)


def _recorded(record: Path) -> set[str]:
    return set(record.read_text(encoding="utf-8").split()) if record.exists() else set()


def _mapped_names(pid: int) -> set[str]:
    """Names of the segments in /dev/shm that a process has mapped."""
    try:
        text = Path(f"/proc/{pid}/maps").read_text(encoding="utf-8", errors="replace")
    except OSError:
        # It has ended since it was listed, or belongs to another user.
        return set()
    words = {line.split()[5] for line in text.splitlines() if "/dev/shm/" in line}
    paths = {Path(word) for word in words}
    return {p.name for p in paths if p.parent == _SHARED and p.name.startswith(_PREFIXES)}
