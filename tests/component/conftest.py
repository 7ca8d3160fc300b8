"""What all component tests start from."""

import pytest

from vnetd.reconcile import rules


@pytest.fixture(autouse=True)
def nothing_lingers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shared chains go with their last user at once, and what was written is listed at once.

    So a test can ask whether anything is left, and no call comes later than those it counts.
    """
    monkeypatch.setattr(rules, "LINGER", 0)
    monkeypatch.setattr(rules, "PAUSE", 0)
