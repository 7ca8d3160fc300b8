"""What all component tests start from."""

import pytest
from support.memory_switches import Clock

from vnetd.reconcile import rules


@pytest.fixture(autouse=True)
def nothing_lingers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shared chains go with their last user at once, and what was written is listed at once.

    So a test can ask whether anything is left, and no call comes later than those it counts.
    """
    monkeypatch.setattr(rules, "LINGER", 0)
    monkeypatch.setattr(rules, "PAUSE", 0)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """What switches take for the seconds since the boot."""
    made = Clock()
    monkeypatch.setattr("vnetd.service.switch_confirmation.GLANCE", 0.01)
    monkeypatch.setattr(
        "vnetd.service.clock.time", type("time", (), {"clock_gettime": lambda _: made(), "CLOCK_BOOTTIME": 7})
    )
    return made
