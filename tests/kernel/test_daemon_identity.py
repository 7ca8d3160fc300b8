"""Devices that somebody renames or retags stay vnetd's, and services stay with the network they are for."""

from collections.abc import Iterable
from pathlib import Path

import pytest
from support.client import MANAGER, ROOT
from support.netns import Namespace
from support.site import Administrator
from support.waiting import SILENCE, wait_until

DOCUMENTS = Path(__file__).parent.parent / "golden" / "filter" / "documents"
LAB = {"name": "lab", "mode": "nat", "addresses": [{"address": "192.168.77.1/24"}, {"address": "fd77::1/64"}]}
OTHER = {"name": "other", "mode": "isolated", "addresses": [{"address": "192.168.78.1/24"}]}
DNS = {"hosts": [{"address": "192.168.77.250", "hostnames": ["gateway"]}]}
GUEST = "192.168.77.10"


@pytest.mark.parametrize("damage", ["name virbr0 name mine", "virbr0 alias theirs"])
async def test_a_bridge_gets_its_name_and_alias_back_and_guests_their_way(admin: Administrator, damage: str) -> None:
    await admin.raise_network(LAB)
    guest = await admin.add_guest("lab", f"{GUEST}/24")
    guest.configure(gateway=("192.168.77.1",))
    host = admin.site.host
    before = host.link("virbr0")
    assert before is not None and guest.ping("192.168.77.1")
    host.run("ip", "link", "set", *damage.replace("name virbr0", "virbr0").split())
    after = wait_until(lambda: host.link("virbr0"), "it has its name back")
    assert after["ifindex"] == before["ifindex"], "it is the same bridge"
    wait_until(lambda: (host.link("virbr0") or {}).get("ifalias") == before["ifalias"], "it has its alias")
    wait_until(lambda: guest.ping("192.168.77.1"), "the guest reaches its gateway")
    wait_until(lambda: guest.ping("203.0.113.1"), "and the outside")


@pytest.mark.parametrize("damage", ["name", "alias"])
async def test_a_filtered_port_keeps_its_filter_whatever_it_is_called(admin: Administrator, damage: str) -> None:
    await admin.raise_network(LAB)
    await admin.define_filter((DOCUMENTS / "filter-blockicmp.xml").read_text())
    guest = await admin.add_guest("lab", f"{GUEST}/24", filter="blockicmp")
    host = admin.site.host
    before = host.link(guest.device)
    assert before is not None and not host.ping(GUEST)
    new = {"name": ["name", "stray0"], "alias": ["alias", "theirs"]}[damage]
    host.run("ip", "link", "set", guest.device, *new)
    wait_until(lambda: (host.link(guest.device) or {}).get("ifalias") == before["ifalias"], "it is what it was")
    assert host.link("stray0") is None
    assert not host.ping(GUEST, wait=SILENCE), "it is filtered"
    ports = await admin.call(ROOT, MANAGER, "ListPorts", "a{sv}", {})
    assert [port["device"] for port in ports] == [guest.device]


def answered(asked: Iterable[tuple[Namespace, str]], *, wait: int = 5) -> list[bool]:
    """Which of these DNS servers answer at all within ``wait`` seconds, each asked from a namespace; all at once."""
    running = [asker.start("dig", f"@{server}", f"+time={wait}", "+tries=1", "gateway") for asker, server in asked]
    return [one.wait(timeout=wait + 10) == 0 for one in running]


@pytest.mark.parametrize("mode", ["nat", "route", "isolated", "open"])
async def test_dns_of_a_network_answers_its_guests_and_the_host_and_nobody_else(
    admin: Administrator, mode: str
) -> None:
    await admin.raise_network(LAB | {"mode": mode, "dns": DNS})
    await admin.raise_network(OTHER)
    guest = await admin.add_guest("lab", f"{GUEST}/24", name="guest")
    stranger = await admin.add_guest("other", "192.168.78.10/24", name="stranger")
    stranger.run("ip", "route", "replace", "default", "via", "192.168.78.1")
    outside = admin.site.outside
    outside.run("ip", "route", "replace", "192.168.77.1/32", "via", "203.0.113.2")
    outside.run("ip", "route", "replace", "fd77::1/128", "via", "2001:db8:113::2")
    try:
        assert all(answered([(guest, "192.168.77.1"), (admin.site.host, "192.168.77.1")]))
        others = [(outside, "192.168.77.1"), (outside, "fd77::1"), (stranger, "192.168.77.1")]
        assert not any(answered(others, wait=1))
    finally:
        outside.run("ip", "route", "del", "192.168.77.1/32")
        outside.run("ip", "route", "del", "fd77::1/128")
