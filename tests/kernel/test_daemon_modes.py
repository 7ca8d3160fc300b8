"""What each mode lets through, seen by packets; the outside is a host behind the uplink that knows no guest."""

from typing import Any

import pytest
from support.netns import Lab
from support.site import Administrator
from support.traffic import pings_answered, privileged_port, reaches, second_uplink, serving, source_seen
from support.waiting import SILENCE, eventually, wait_until

GATEWAYS = ("192.168.77.1", "fd77::1")
GUEST = ("192.168.77.10/24", "fd77::10/64")
GUEST4, GUEST6 = "192.168.77.10", "fd77::10"
SUBNETS = ("192.168.77.0/24", "fd77::/64")


def network(mode: str, **fields: Any) -> dict[str, Any]:
    """A network of a mode for both families, without DHCP."""
    addresses = [{"address": "192.168.77.1/24"}, {"address": "fd77::1/64"}]
    nat = {"nat": {"ipv6": True}} if mode == "nat" else {}
    return {"name": "lab", "mode": mode, "addresses": addresses, **nat, **fields}


@pytest.mark.parametrize("outside", ["203.0.113.1", "2001:db8:113::1"])
async def test_nat_lets_guests_out_under_the_hosts_address(admin: Administrator, outside: str) -> None:
    site = admin.site
    await admin.raise_network(network("nat"))
    guest = await admin.add_guest("lab", *GUEST, gateway=GATEWAYS)
    assert wait_until(lambda: guest.ping(outside), "the outside answers")
    with serving(site.outside, "tcp:80"):
        assert reaches(guest, outside, 80)
    seen = source_seen(guest, site.outside, outside, sport=privileged_port())
    assert seen and seen[0] == (site.outside.host_ipv6 if ":" in outside else site.outside.host_ipv4)


async def test_nat_never_uses_a_privileged_source_port(admin: Administrator) -> None:
    """A guest's port 500 must not come out as the host's own port 500."""
    await admin.raise_network(network("nat"))
    guest = await admin.add_guest("lab", *GUEST, gateway=GATEWAYS)
    for outside in (admin.site.outside.ipv4, admin.site.outside.ipv6):
        seen = source_seen(guest, admin.site.outside, outside, sport=privileged_port())
        assert seen and 1024 <= seen[1] <= 65535


async def test_nat_uses_the_ports_and_addresses_the_document_says(admin: Administrator) -> None:
    site = admin.site
    extra = "203.0.113.77"
    site.host.run("ip", "address", "add", f"{extra}/24", "dev", "uplink0")
    try:
        nat = {"ports": {"start": 30000, "end": 30001}, "address": {"start": extra, "end": extra}}
        await admin.raise_network(network("nat", nat=nat))
        guest = await admin.add_guest("lab", *GUEST, gateway=GATEWAYS)
        seen = source_seen(guest, site.outside, site.outside.ipv4, sport=privileged_port())
        assert seen and seen[0] == extra and seen[1] in {30000, 30001}
    finally:
        site.host.run("ip", "address", "delete", f"{extra}/24", "dev", "uplink0")


@pytest.mark.parametrize("group", ["224.0.0.1", "255.255.255.255"])
async def test_nat_spares_multicast_and_broadcast(admin: Administrator, group: str) -> None:
    site = admin.site
    await admin.raise_network(network("nat"))
    guest = await admin.add_guest("lab", *GUEST, gateway=GATEWAYS)
    other = await admin.add_guest("lab", "192.168.77.11/24", name="other")
    port = privileged_port()
    for receiver in (other, site.host):
        assert source_seen(guest, receiver, group, source=GUEST4, sport=port, device="eth0") == (GUEST4, port)
    own = GATEWAYS[0]  # the host's own address on the bridge, out of the uplink
    assert source_seen(site.host, site.outside, group, source=own, sport=port, device="uplink0") == (own, port)


async def test_nat_without_ipv6_translation_routes_ipv6(admin: Administrator) -> None:
    site = admin.site
    site.outside.route_back(SUBNETS[1])
    await admin.raise_network(network("nat", nat=None))
    guest = await admin.add_guest("lab", *GUEST, gateway=GATEWAYS)
    port = privileged_port()
    assert source_seen(guest, site.outside, site.outside.ipv6, sport=port) == (GUEST6, port)
    assert wait_until(lambda: site.outside.ping(GUEST6), "the outside reaches the guest over IPv6")
    seen = source_seen(guest, site.outside, site.outside.ipv4)
    assert seen and seen[0] == site.outside.host_ipv4


async def test_nobody_outside_can_open_connections_to_guests_behind_nat(admin: Administrator) -> None:
    site = admin.site
    for subnet in SUBNETS:
        site.outside.route_back(subnet)
    await admin.raise_network(network("nat"))
    guest = await admin.add_guest("lab", *GUEST, gateway=GATEWAYS)
    assert all(pings_answered([(guest, site.outside.ipv4), (guest, site.outside.ipv6)]))
    with serving(guest, "tcp:80"):
        assert reaches(site.host, GUEST4, 80)
        assert reaches(site.host, GUEST6, 80)
        assert not reaches(site.outside, GUEST4, 80, wait=SILENCE)
        assert not reaches(site.outside, GUEST6, 80, wait=SILENCE)
    assert not any(pings_answered([(site.outside, GUEST4), (site.outside, GUEST6)], wait=SILENCE))


@pytest.mark.parametrize("mode", ["route", "open"])
async def test_route_and_open_forward_both_ways_untranslated(admin: Administrator, mode: str) -> None:
    site = admin.site
    for subnet in SUBNETS:
        site.outside.route_back(subnet)
    await admin.raise_network(network(mode))
    guest = await admin.add_guest("lab", *GUEST, gateway=GATEWAYS)
    with serving(guest, "tcp:80"), serving(site.outside, "tcp:80"):
        for inner, outer in ((GUEST4, site.outside.ipv4), (GUEST6, site.outside.ipv6)):
            assert reaches(site.outside, inner, 80)
            assert reaches(guest, outer, 80)
            port = privileged_port()
            assert source_seen(guest, site.outside, outer, sport=port) == (inner, port)


async def test_route_forwards_nothing_that_is_not_of_its_subnets(admin: Administrator) -> None:
    site = admin.site
    site.outside.route_back("10.66.0.0/24")
    await admin.raise_network(network("route"))
    guest = await admin.add_guest("lab", *GUEST, "10.66.0.5/24", gateway=GATEWAYS)
    site.host.run("ip", "route", "add", "10.66.0.0/24", "dev", "virbr0")
    assert source_seen(guest, site.outside, site.outside.ipv4, source=GUEST4)
    assert source_seen(guest, site.outside, site.outside.ipv4, source="10.66.0.5", wait=SILENCE) is None
    assert not site.outside.ping("10.66.0.5", wait=SILENCE)


async def test_open_adds_no_rule_at_all(admin: Administrator) -> None:
    before = admin.site.ruleset()
    await admin.raise_network(network("open"))
    await admin.add_guest("lab", *GUEST)
    assert admin.site.ruleset() == before


async def test_isolated_guests_talk_to_each_other_and_the_host_only(admin: Administrator) -> None:
    site = admin.site
    for subnet in SUBNETS:
        site.outside.route_back(subnet)
    site.host.run("sysctl", "-qw", "net.ipv4.conf.all.forwarding=1", "net.ipv6.conf.all.forwarding=1")
    try:
        await admin.raise_network(network("isolated"))
        one = await admin.add_guest("lab", *GUEST, gateway=GATEWAYS, name="one")
        two = await admin.add_guest("lab", "192.168.77.11/24", "fd77::11/64", gateway=GATEWAYS, name="two")
        assert all(pings_answered([(two, GUEST4), (two, GUEST6), *((one, own) for own in GATEWAYS)]))
        assert all(pings_answered([(site.host, GUEST4), (site.host, GUEST6)]))
        outward = [(one, site.outside.ipv4), (one, site.outside.ipv6)]
        assert not any(pings_answered([*outward, (site.outside, GUEST4), (site.outside, GUEST6)], wait=SILENCE))
        with serving(site.outside, "tcp:80"), serving(one, "tcp:80"):
            assert not reaches(one, site.outside.ipv4, 80, wait=SILENCE)
            assert not reaches(site.outside, GUEST4, 80, wait=SILENCE)
    finally:
        site.host.run("sysctl", "-qw", "net.ipv4.conf.all.forwarding=0", "net.ipv6.conf.all.forwarding=0")


async def test_without_host_access_guests_reach_each_other_and_get_leases_but_not_the_host(
    admin: Administrator,
) -> None:
    addresses = [
        {"address": "192.168.77.1/24", "dhcp": {"ranges": [{"start": "192.168.77.50", "end": "192.168.77.60"}]}},
        {"address": "fd77::1/64"},
    ]
    await admin.raise_network(network("isolated", host_access=False, addresses=addresses))
    one = await admin.add_guest("lab", *GUEST, name="one")
    two = await admin.add_guest("lab", "192.168.77.11/24", "fd77::11/64", name="two")
    assert all(pings_answered([(two, GUEST4), (two, GUEST6)]))
    assert not any(pings_answered([(one, own) for own in GATEWAYS], wait=SILENCE))
    with serving(admin.site.host, "tcp:80"):
        assert not reaches(one, GATEWAYS[0], 80, wait=SILENCE)
        assert not reaches(one, GATEWAYS[1], 80, wait=SILENCE)
    late = await admin.add_guest("lab", name="late")
    assert late.lease().startswith("192.168.77.")


async def test_a_named_uplink_is_the_only_way_out(admin: Administrator, lab: Lab) -> None:
    with second_uplink(lab, admin.site.host, "uplink1"):
        path = await admin.raise_network(network("nat", devices={"interfaces": ["uplink0"]}))
        guest = await admin.add_guest("lab", *GUEST, gateway=GATEWAYS)
        assert wait_until(lambda: guest.ping("203.0.113.1"), "the named uplink is used")
        assert not guest.ping("198.51.100.1", wait=SILENCE)
        await admin.stop(path)


async def test_without_a_named_uplink_one_that_comes_later_is_used_too(admin: Administrator, lab: Lab) -> None:
    path = await admin.raise_network(network("nat"))
    guest = await admin.add_guest("lab", *GUEST, gateway=GATEWAYS)
    with second_uplink(lab, admin.site.host, "uplink1") as other:
        assert wait_until(lambda: guest.ping("198.51.100.1"), "the new uplink is used")
        other.run("ip", "route", "add", SUBNETS[0], "via", "198.51.100.2")
        assert not other.ping(GUEST4, wait=SILENCE)
        await admin.stop(path)


async def test_a_network_behind_a_guest_is_reached_by_its_static_route(admin: Administrator) -> None:
    site = admin.site
    inner = ("10.99.0.0/24", "fd99::/64")
    routes = [{"destination": inner[0], "gateway": GUEST4}, {"destination": inner[1], "gateway": GUEST6}]
    for subnet in (*inner, *SUBNETS):
        site.outside.route_back(subnet)
    await admin.raise_network(network("route", routes=routes))
    router = await admin.add_guest("lab", *GUEST, gateway=GATEWAYS)
    for address in ("10.99.0.1/24", "fd99::1/64"):
        router.run("ip", "address", "add", address, "dev", "lo")
    other = await admin.add_guest("lab", "192.168.77.11/24", "fd77::11/64", gateway=GATEWAYS, name="other")
    for address in ("10.99.0.1", "fd99::1"):
        for sender in (site.host, other, site.outside):
            assert await eventually(lambda s=sender, a=address: s.ping(a), f"{address} answers")
    port = privileged_port()
    seen = source_seen(router, site.outside, site.outside.ipv4, source="10.99.0.1", sport=port)
    assert seen == ("10.99.0.1", port)


async def test_every_address_of_a_network_serves_its_guests(admin: Administrator) -> None:
    hosts = ["192.168.77.1/24", "10.77.0.1/16", "fd77::1/64", "fd78::1/64"]
    await admin.raise_network(network("nat", addresses=[{"address": one} for one in hosts]))
    assert admin.site.host.addresses("virbr0") == set(hosts)
    one = await admin.add_guest("lab", "192.168.77.10/24", "fd77::10/64", gateway=GATEWAYS, name="one")
    two = await admin.add_guest("lab", "10.77.0.10/16", "fd78::10/64", gateway=("10.77.0.1", "fd78::1"), name="two")
    outside = admin.site.outside
    assert all(pings_answered([(guest, to) for guest in (one, two) for to in (outside.ipv4, outside.ipv6)]))
    assert all(pings_answered([(one, "10.77.0.10"), (one, "fd78::10"), (two, GUEST4), (two, GUEST6)]))


async def test_the_mtu_of_a_network_is_that_of_its_guests(admin: Administrator) -> None:
    await admin.raise_network(network("nat", mtu=1400))
    guest = await admin.add_guest("lab", *GUEST)
    assert [admin.site.host.link(device)["mtu"] for device in ("virbr0", guest.device)] == [1400, 1400]
    assert guest.link("eth0")["mtu"] == 1400
    full = 1400 - 28  # IPv4 and ICMP headers
    assert guest.succeeds("ping", "-M", "do", "-c", "1", "-W", "1", "-s", str(full), GATEWAYS[0])
    assert not guest.succeeds("ping", "-M", "do", "-c", "1", "-W", "1", "-s", str(full + 1), GATEWAYS[0])


async def test_stp_makes_a_guest_wait_and_then_forwards(admin: Administrator) -> None:
    await admin.raise_network(network("isolated", bridge={"stp": True}))
    guest = await admin.add_guest("lab", *GUEST)
    (link,) = admin.site.host.ip("link", "show", "dev", "virbr0")
    assert link["linkinfo"]["info_data"]["stp_state"] == 1
    assert link["linkinfo"]["info_data"]["forward_delay"] == 200
    (port,) = admin.site.host.ip("link", "show", "dev", guest.device)
    assert port["linkinfo"]["info_slave_data"]["state"] in {"listening", "learning", "forwarding"}
    assert wait_until(lambda: guest.ping(GATEWAYS[0]), "the port forwards", deadline=20)
