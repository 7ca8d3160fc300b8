"""Broken filters and a running daemon: it refuses each with a typed error and is as it was."""

import pytest
from support.broken_filters import broken
from support.client import MANAGER, ROOT, Refused
from support.site import Administrator

NUMBER = 300
GOOD = "<filter name='good'><rule action='drop' direction='in'><icmp/></rule></filter>"


async def test_hundreds_of_broken_filters_leave_the_daemon_unharmed(admin: Administrator) -> None:
    before = await admin.call(ROOT, MANAGER, "ListFilters", "a{sv}", {})
    for seed in range(NUMBER):
        one = broken(seed)
        with pytest.raises(Refused) as caught:
            await admin.call(ROOT, MANAGER, "DefineFilter", "sa{sv}", one.text, {})
        assert caught.value.name == "org.vnetd1.Error.Invalid", f"{one.text}: {caught.value}"
        assert all(word in str(caught.value) for word in one.named)
    assert await admin.call(ROOT, MANAGER, "ListFilters", "a{sv}", {}) == before
    assert not list((admin.site.root / "etc").rglob("*.json"))
    await admin.define_filter(GOOD)
