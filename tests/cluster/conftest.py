"""The Slurm of the cluster tests."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.local_slurm import LocalSlurm, missing_programs


def _words(missing: list[str]) -> str:
    return f"{', '.join(missing)} not installed; on Debian: apt-get install slurm-wlm munge"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say plainly that the cluster tests did not run; skips are easily overlooked."""
    missing = missing_programs()
    if missing and terminalreporter.stats.get("skipped"):
        terminalreporter.write_line(f"Slurm was not tested: {_words(missing)}", yellow=True)


@pytest.fixture(scope="session")
def slurm() -> Iterator[LocalSlurm]:
    """Two nodes on this machine; where Slurm is not installed, the summary says what is missing."""
    missing = missing_programs()
    if missing:
        pytest.skip(f"Slurm was not tested: {_words(missing)}")
    # Not pytest's folder: sockets have short paths, and munge checks who owns the parents.
    with tempfile.TemporaryDirectory(prefix="e3s") as folder:
        Path(folder).chmod(0o755)
        cluster = LocalSlurm(Path(folder))
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.stop()
