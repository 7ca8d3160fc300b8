"""What tests that boot machines share."""

import os

import pytest
from support.machine import StockKernel, prepared
from support.machine.errors import Unavailable


@pytest.fixture(scope="session")
def kernel() -> StockKernel:
    """The kernel that is booted; tests are skipped, and the reason named, where there is none."""
    if os.geteuid() != 0:
        pytest.skip("needs root: ./test")
    try:
        return prepared()
    except Unavailable as error:
        pytest.skip(str(error))
