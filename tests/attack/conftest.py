"""Targets of membership inference, trained once for all tests."""

import pytest
from membership_world import exposed

from privsweep.interface.records import Exposure


@pytest.fixture(scope="session")
def overfitted() -> Exposure:
    return exposed()


@pytest.fixture(scope="session")
def untrained() -> Exposure:
    return exposed(epochs=0)
