"""One browser for all tests of the page."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from browser import Page, browsing


@pytest.fixture(scope="session")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browsing(tmp_path_factory.mktemp("browser"), tmp_path_factory.mktemp("page")) as opened:
        yield opened
