"""The documents users really have: they start and serve a guest, or are refused by the name of what is missing."""

import os
import re
from pathlib import Path

import pytest
from support.client import MANAGER, NETWORK, ROOT, Refused
from support.netns import Lab
from support.private_bus import client_of, method_call
from support.site import Administrator
from support.traffic import second_uplink
from support.waiting import SILENCE, wait_until

DOCUMENTS = Path(__file__).parent.parent / "golden" / "network"


def document(name: str) -> str:
    """A document with STP off: a guest would wait for four seconds."""
    text = (DOCUMENTS / f"{name}.xml").read_text()
    if "<bridge" not in text:
        return text.replace("</name>", "</name><bridge stp='off'/>")
    return re.sub("<bridge", "<bridge stp='off'", re.sub(r" stp=.on.", "", text))


@pytest.mark.parametrize(
    ("name", "mode", "outside"),
    [
        ("default", "nat", True),
        ("nat-full", "nat", True),
        ("nat-dual-stack", "nat", True),
        ("nat-uplink-static-hosts", "nat", False),  # its uplink eno1 leads elsewhere
        ("isolated", "isolated", False),
        ("route", "route", True),
        ("open", "open", True),
    ],
)
async def test_a_users_document_serves_a_guest(
    admin: Administrator, lab: Lab, name: str, mode: str, outside: bool
) -> None:
    site = admin.site
    with second_uplink(lab, site.host, "eno1") as other:
        network = await admin.raise_network(document(name))
        assert await admin.get(network, NETWORK, "Mode") == mode
        guest = await admin.add_guest(await admin.get(network, NETWORK, "Name"))
        address = guest.lease()
        site.outside.route_back(f"{address}/32")
        other.run("ip", "route", "add", "default", "via", "198.51.100.2")
        assert [lease["address"] for lease in await admin.leases(network)] == [address]
        if outside:
            assert wait_until(lambda: guest.ping(site.outside.ipv4), "the outside answers")
        else:
            assert not guest.ping(site.outside.ipv4, wait=SILENCE)
        if "eno1" in document(name):
            assert wait_until(lambda: guest.ping("198.51.100.1"), "what is behind its uplink answers")
        await admin.stop(network)


async def test_a_static_host_of_a_users_document_gets_its_address(admin: Administrator, lab: Lab) -> None:
    with second_uplink(lab, admin.site.host, "eno1"):
        network = await admin.raise_network(document("nat-uplink-static-hosts"))
        guest = await admin.add_guest("lab", mac="00:25:90:eb:34:2c")
        assert guest.lease() == "192.168.124.14"
        await admin.stop(network)


async def test_the_mac_and_uuid_a_user_wrote_are_used(admin: Administrator) -> None:
    await admin.raise_network(document("nat-full"))
    link = admin.site.host.link("virbr1")
    assert link and link["address"] == "52:54:00:4d:94:67"
    assert (await admin.networks())["nat2"]["uuid"] == "8a54c7f3-e910-4d12-8312-34a11467ac86"


async def test_a_document_over_a_bridge_of_the_host_joins_guests_to_it(admin: Administrator) -> None:
    host = admin.site.host
    network = await admin.define_network((DOCUMENTS / "bridge.xml").read_text())
    with pytest.raises(Refused, match=r"^org.vnetd1.Error.NotFound: network br0 is on bridge br0"):
        await admin.start(network)
    host.run("ip", "link", "add", "br0", "up", "type", "bridge")
    try:
        host.run("ip", "address", "add", "192.168.88.1/24", "dev", "br0")
        await admin.start(network)
        guest = await admin.add_guest("br0", "192.168.88.9/24")
        assert wait_until(lambda: guest.ping("192.168.88.1"), "the host answers on its bridge")
        await admin.stop(network)
        assert host.link("br0"), "the bridge is the host's"
    finally:
        host.run("ip", "link", "delete", "br0")


@pytest.mark.parametrize("name", ["macvtap-bridge", "macvtap-passthrough", "macvtap-private", "macvtap-vepa"])
async def test_a_document_over_a_card_of_the_host_gives_guests_a_macvtap_of_it(admin: Administrator, name: str) -> None:
    host = admin.site.host
    network = await admin.define_network((DOCUMENTS / f"{name}.xml").read_text())
    with pytest.raises(Refused, match=r"^org.vnetd1.Error.NotFound: .* forwards to ens34"):
        await admin.start(network)
    host.run("ip", "link", "add", "ens34", "up", "type", "veth", "peer", "name", "ens34-far")
    try:
        await admin.start(network)
        async with client_of(admin.site.bus) as bus:
            reply = await bus.call(method_call(ROOT, MANAGER, "OpenTap", "sa{sv}", name, {}))
            assert reply is not None and len(reply.unix_fds) == 1, reply and reply.body
            made = [link for link in host.ip("link", "show", "type", "macvtap") if link["link"] == "ens34"]
            assert len(made) == 1
            os.close(reply.unix_fds[0])
        await admin.stop(network)
    finally:
        host.run("ip", "link", "delete", "ens34")


async def test_a_document_over_functions_of_a_card_is_refused_by_its_name(admin: Administrator) -> None:
    """Virtual functions are of hardware, which is not here; see the tests of pools."""
    network = await admin.define_network((DOCUMENTS / "sriov-pool.xml").read_text())
    with pytest.raises(Refused, match=r"^org.vnetd1.Error.NotFound: network sriov1 forwards to ens34"):
        await admin.start(network)
    assert not await admin.get(network, NETWORK, "Active")
    assert not admin.site.leftovers()
