"""Fixtures shared by the integration and the end-to-end tests."""

from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.e2e.live_run import Finished, LiveRuns
from tests.warm_parent import WarmParent

# A machine that does other work too is slow at any moment.
settings.register_profile("shared machine", deadline=None)
settings.load_profile("shared machine")


@pytest.fixture(scope="session")
def warm_parent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WarmParent]:
    """One process with torch and Megatron-Core loaded, for all rank grids of the session."""
    parent = WarmParent(tmp_path_factory.mktemp("grids"))
    yield parent
    parent.close()


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    """The small run, from its start to its end, for end-to-end and cluster tests."""
    runs = LiveRuns()
    try:
        run = runs.start(tmp_path_factory.mktemp("finished") / "run")
        status, lines, _ = run.finish()
        assert status == 0, "\n".join(lines)
        yield Finished(run, lines)
    finally:
        runs.close()


@pytest.fixture
def live_runs() -> Iterator[LiveRuns]:
    """Starts runs; what a failed test leaves of them is ended."""
    runs = LiveRuns()
    yield runs
    runs.close()
