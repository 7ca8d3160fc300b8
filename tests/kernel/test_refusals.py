"""What this host's kernel cannot do is refused with what lacks and the host's own reason; elsewhere it works."""

import json
from collections.abc import Awaitable, Callable, Mapping

import pytest
from support.client import BINDING, MANAGER, NAME, ROOT, Refused
from support.site import Administrator

RELATED = """<filter name='related'><rule action='accept' direction='in'><tcp state='RELATED'/></rule></filter>"""


async def filtering_switch(admin: Administrator) -> None:
    """A switch that filters by VLAN."""
    await _switch(admin, {"vlan_filtering": True})


async def tagged_uplink(admin: Administrator) -> None:
    """A switch with a VLAN's part of a device plugged in."""
    admin.site.host.run("ip", "link", "add", "card0", "type", "bridge")
    try:
        await _switch(admin, {"uplinks": [{"device": "card0", "vlan": 30}]})
    finally:
        admin.site.host.run("ip", "link", "delete", "card0")


async def rule_about_related_packets(admin: Administrator) -> None:
    """A filter in force that asks for the state of connections."""
    path = await admin.define_filter(RELATED)
    try:
        binding = await admin.bind("nobody0", "related", {})
        await admin.call(binding, BINDING, "Delete")
    finally:
        await admin.call(path, f"{NAME}.Filter", "Undefine")


ASKED: Mapping[str, tuple[Callable[[Administrator], Awaitable[None]], str]] = {
    "bridge-vlan-filtering": (filtering_switch, "switch trunk needs VLAN filtering on bridges"),
    "vlan": (tagged_uplink, "switch trunk: uplink card0.30 needs 802.1Q devices"),
    "nft-bridge-conntrack": (rule_about_related_packets, "filter related: state RELATED needs connection tracking"),
}


@pytest.mark.parametrize("ability", ASKED)
async def test_what_lacks_is_refused_as_the_capabilities_tell_it(admin: Administrator, ability: str) -> None:
    ask, words = ASKED[ability]
    able, reason = (await admin.get(ROOT, MANAGER, "Capabilities"))[ability]
    before = admin.site.devices()
    if able:
        await ask(admin)
    else:
        with pytest.raises(Refused) as caught:
            await ask(admin)
        assert caught.value.name == "org.vnetd1.Error.Unsupported"
        assert words in str(caught.value)
        assert reason in str(caught.value)
    assert admin.site.devices() == before


async def _switch(admin: Administrator, fields: dict[str, object]) -> None:
    document = json.dumps({"name": "trunk", "bridge": "br-trunk", **fields})
    path = await admin.call(ROOT, MANAGER, "CreateSwitch", "sa{sv}", document, {})
    await admin.call(path, f"{NAME}.Switch", "Stop")
