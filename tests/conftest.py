"""Fixtures shared by the integration and the end-to-end tests."""

from collections.abc import Iterator

import pytest

from tests.warm_parent import WarmParent


@pytest.fixture(scope="session")
def warm_parent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WarmParent]:
    """One process with torch and Megatron-Core loaded, for all rank grids of the session."""
    parent = WarmParent(tmp_path_factory.mktemp("grids"))
    yield parent
    parent.close()
