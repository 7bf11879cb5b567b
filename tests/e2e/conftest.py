"""The server that end-to-end tests share."""

from collections.abc import Iterator

import pytest

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
