"""The server that end-to-end tests share, and the runs that they start."""

from collections.abc import Iterator

import pytest

from tests.e2e.live_run import LiveRuns
from tests.e2e.tier import Tier, end_tree, wait_until_ready
from tests.warm_parent import WarmParent


@pytest.fixture(scope="session")
def tier(tmp_path_factory: pytest.TempPathFactory, warm_parent: WarmParent) -> Iterator[Tier]:
    """One vLLM server for all tests that can share it."""
    tier = Tier(tmp_path_factory.mktemp("tier"), warm_parent)
    try:
        wait_until_ready(tier.job)
        yield tier
    finally:
        end_tree(tier.job)


@pytest.fixture
def live_runs() -> Iterator[LiveRuns]:
    """Starts runs; what a failed test leaves of them is ended."""
    runs = LiveRuns()
    yield runs
    runs.close()
