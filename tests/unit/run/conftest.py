"""Runs that end with their test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.run.fake_runs import finish
from tests.unit.run.fault_runs import Started
from tests.unit.run.halted_runs import halted, training_plan


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Started]:
    it = Started(tmp_path)
    yield it
    it.close()


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The run without a fault."""
    it = Started(tmp_path_factory.mktemp("whole"))
    try:
        struck = halted(it, training_plan())
        struck.go_on()
        lines = finish(struck.command)
        assert struck.command.returncode == 0, lines
        yield it.run_dir
    finally:
        it.close()
