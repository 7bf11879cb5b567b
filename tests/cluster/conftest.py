"""The Slurm of the cluster tests."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.local_slurm import LocalSlurm, missing_programs


@pytest.fixture(scope="session")
def slurm() -> Iterator[LocalSlurm]:
    """Two nodes on this machine; the tests fail, and say so, where Slurm is not installed."""
    missing = missing_programs()
    if missing:
        pytest.fail(
            f"no Slurm here: {', '.join(missing)} not installed; on Debian: apt-get install "
            "slurm-wlm munge"
        )
    # Not pytest's folder: sockets have short paths, and munge checks who owns the parents.
    with tempfile.TemporaryDirectory(prefix="e3s") as folder:
        Path(folder).chmod(0o755)
        cluster = LocalSlurm(Path(folder))
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.stop()
