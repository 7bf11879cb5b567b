"""What the two ends of the shared-memory engine say to each other; no torch, no vLLM."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from e3mega.errors import SyncError

BACKEND = "e3mega_shared_memory"
"""Name under which both ends are registered with vLLM's factories."""


@dataclass(frozen=True, slots=True)
class TensorReport:
    """One tensor as one side has it. Example: ``TensorReport("9f3c…", True)``."""

    checksum: str
    is_packed_fresh: bool = True
    """False when a packed copy's product differs from that of a fresh packing."""


def write_report(path: Path, tensors: dict[str, TensorReport]) -> None:
    """Write what is installed, by rename."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps({name: asdict(report) for name, report in tensors.items()}))
    partial.rename(path)


def read_report(path: Path) -> dict[str, TensorReport]:
    """Read what a server installed; raises SyncError when there is no such report."""
    try:
        rows = json.loads(path.read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise SyncError(f"{path}: no report of what the server installed: {error}") from error
    return {name: TensorReport(**row) for name, row in rows.items()}


def compare_reports(
    sent: dict[str, TensorReport], installed: dict[str, TensorReport], *, server: str
) -> None:
    """Raises SyncError that names the first tensor which is not installed as it was sent."""
    missing, extra = sorted(sent.keys() - installed.keys()), sorted(installed.keys() - sent.keys())
    if missing or extra:
        names = ", ".join((missing or extra)[:3])
        what = "were sent and are not installed" if missing else "are installed and were not sent"
        raise SyncError(f"{server}: {len(missing or extra)} tensors {what}: {names}")
    for name, report in sent.items():
        found = installed[name]
        if found.checksum != report.checksum:
            raise SyncError(
                f"{server}: tensor {name}: checksum as sent {report.checksum}, as installed "
                f"{found.checksum}"
            )
        if not found.is_packed_fresh:
            raise SyncError(
                f"{server}: tensor {name}: its packed copy gives another product than a fresh "
                "packing of what was sent; it was not refreshed"
            )
