"""What tests that boot machines share."""

import os
from collections.abc import Callable
from typing import Any

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


@pytest.fixture
def fact(facts: dict[str, Any], record_property: Callable[..., None]) -> Callable[[str], dict[str, Any]]:
    """``fact("restarted")``: what a machine found; the test fails with the reason if that could not be found."""
    record_property(*facts["spent"])

    def found(name: str) -> dict[str, Any]:
        assert "error" not in facts[name], facts[name]["error"]
        return dict(facts[name])

    return found
