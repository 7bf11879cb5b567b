"""One synthetic run folder for all report tests."""

from pathlib import Path

import pytest

from tests.data.make_recorded_run import write_recorded_run


@pytest.fixture(scope="session")
def recorded_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of two RL stages; tests leave its metrics as they are."""
    return write_recorded_run(tmp_path_factory.mktemp("runs") / "a", name="recorded", seed=1)
