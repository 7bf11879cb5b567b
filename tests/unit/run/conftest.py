"""Runs that end with their test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.run.fault_runs import Started


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Started]:
    it = Started(tmp_path)
    yield it
    it.close()
