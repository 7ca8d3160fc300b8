"""What owners of ports who are not root may do with them, said over the bus by a member of group vnetd."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from dbus_next.aio.message_bus import MessageBus
from support.client import MANAGER, PORT, ROOT, plain, variant
from support.private_bus import NOBODY, VNETD_GROUP, client_of, method_call
from support.site import Administrator

pytestmark = pytest.mark.usefixtures("vnetd_group")
SLOW = {"name": "slow", "default": True, "bandwidth": {"inbound": {"average": 1000}}}
LAB = {"name": "lab", "mode": "isolated", "addresses": [{"address": "192.168.77.1/24"}], "portgroups": [SLOW]}
Said = Callable[..., Any]


@pytest.fixture
async def member(admin: Administrator) -> AsyncIterator[MessageBus]:
    async with client_of(admin.site.bus, NOBODY, [VNETD_GROUP]) as bus:
        yield bus


async def said(bus: MessageBus, path: str, interface: str, member: str, signature: str, *body: Any) -> str:
    """Call; the first value of the answer, or an error's name and text."""
    reply = await bus.call(method_call(path, interface, member, signature, *body))
    assert reply is not None
    return f"{reply.error_name or ''} {next(iter(plain(reply.body)), '')}".strip()


async def test_a_member_keeps_within_the_limits_of_its_port_group(admin: Administrator, member: MessageBus) -> None:
    await admin.raise_network(LAB)
    port = await said(member, ROOT, MANAGER, "Attach", "sa{sv}", "lab", {"kind": variant("tap")})

    async def limited(rate: int) -> str:
        return await said(member, port, PORT, "SetBandwidth", "a{sv}", {"inbound.average": variant(rate)})

    denied = "org.vnetd1.Error.Denied port vnet0 may have inbound.average of {} kB/s at most: only root lifts that"
    assert [await limited(rate) for rate in (0, 1001, 500, 1000)] == [denied.format(1000), denied.format(1000), "", ""]
    assert await admin.get(port, PORT, "Bandwidth") == {"inbound.average": 1000}
    wide = {"kind": variant("tap"), "inbound.average": variant(2000)}
    answer = await said(member, ROOT, MANAGER, "Attach", "sa{sv}", "lab", wide)
    assert answer == denied.format(1000).replace("vnet0", "vnet1")
    await admin.call(port, PORT, "SetBandwidth", "a{sv}", {"inbound.average": variant(2000)})
    assert [await limited(rate) for rate in (2001, 1500)] == [denied.format(2000), ""]
    await admin.call(port, PORT, "Detach")
