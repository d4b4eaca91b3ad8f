"""The network that the pages' examples are run on."""

from collections.abc import Iterator

import pytest

from support import stage


@pytest.fixture(scope="session")
def net() -> Iterator[stage.Net]:
    """One for all pages."""
    with stage.Net() as made:
        yield made
