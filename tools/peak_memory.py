"""How far this process's memory grew, as the kernel counts it."""

from pathlib import Path


class PeakMemory:
    """Resident memory above what the process has now.

    ``ru_maxrss`` will not do: it begins with what the process held that started this one.
    """

    def __init__(self) -> None:
        Path("/proc/self/clear_refs").write_text("5")
        self._before = _resident_bytes("VmRSS")

    def grown_bytes(self) -> int:
        """The largest growth so far."""
        return _resident_bytes("VmHWM") - self._before


def _resident_bytes(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"/proc/self/status has no {name}")
