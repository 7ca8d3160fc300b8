"""The documents users really have: they start and serve a guest, or are refused by the name of their mode."""

import re
from pathlib import Path

import pytest
from support.client import NETWORK, Refused
from support.netns import Lab
from support.site import Administrator
from support.traffic import second_uplink
from support.waiting import wait_until

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
            assert not guest.ping(site.outside.ipv4)
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


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("bridge", "bridge"),
        ("macvtap-bridge", "macvtap"),
        ("macvtap-passthrough", "macvtap"),
        ("macvtap-private", "macvtap"),
        ("macvtap-vepa", "macvtap"),
        ("sriov-pool", "hostdev"),
    ],
)
async def test_a_document_of_a_later_mode_is_kept_and_refused_at_start(
    admin: Administrator, name: str, mode: str
) -> None:
    network = await admin.define_network((DOCUMENTS / f"{name}.xml").read_text())
    with pytest.raises(Refused, match=rf"^org.vnetd1.Error.Unsupported: .*mode {mode}"):
        await admin.start(network)
    assert not await admin.get(network, NETWORK, "Active")
    assert not admin.site.leftovers()
