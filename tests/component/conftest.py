"""What all component tests start from."""

import pytest

from vnetd.reconcile import rules


@pytest.fixture(autouse=True)
def nothing_lingers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shared chains go with their last user at once, so that a test can ask whether anything is left."""
    monkeypatch.setattr(rules, "LINGER", 0)
