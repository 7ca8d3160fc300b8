"""What a guest gets from its network by DHCP, DHCPv6, router advertisements and TFTP, with real clients."""

import time
from pathlib import Path
from typing import Any

from support.client import NETWORK
from support.netns import DHCP_SCRIPT, Guest
from support.site import Administrator
from support.waiting import eventually, wait_until

RANGE4 = {"start": "192.168.77.10", "end": "192.168.77.99"}
RANGE6 = {"start": "fd77::10", "end": "fd77::ff"}


def lab(**fields: Any) -> dict[str, Any]:
    """A NAT network for both families with DHCP."""
    addresses = [
        {"address": "192.168.77.1/24", "dhcp": {"ranges": [RANGE4]}},
        {"address": "fd77::1/64", "dhcp": {"ranges": [RANGE6]}},
    ]
    return {"name": "lab", "mode": "nat", "nat": {"ipv6": True}, "addresses": addresses, **fields}


def offered(guest: Guest, directory: Path, *options: str) -> dict[str, str]:
    """What udhcpc tells its script when it got a lease; ``options`` are asked for beside the usual ones."""
    script, answer = directory / "show", directory / "answer"
    script.write_text(f'#!/bin/sh\n[ "$1" != bound ] || env > {answer}\n')
    script.chmod(0o755)
    wanted = [word for option in options for word in ("-O", option)]
    guest.run("udhcpc", "-i", "eth0", "-f", "-n", "-q", "-t", "20", "-T", "1", "-s", str(script), *wanted)
    return dict(line.split("=", 1) for line in answer.read_text().splitlines() if "=" in line)


async def test_a_guest_gets_an_ipv4_lease_that_is_listed_and_announced(admin: Administrator) -> None:
    network = await admin.raise_network(lab())
    announced = await admin.listen("LeaseAdded", network)
    guest = await admin.add_guest("lab", mac="52:54:00:00:00:01")
    address = guest.lease(hostname="web1")
    leases = await eventually(lambda: admin.leases(network), "the lease is listed")
    assert [(one["address"], one["mac"], one["hostname"], one["family"]) for one in leases] == [
        (address, "52:54:00:00:00:01", "web1", "ipv4")
    ]
    heard = await eventually(lambda: not announced.empty() and announced.get_nowait(), "the lease is announced")
    assert heard[0]["address"] == address


async def test_a_guest_gets_an_ipv6_lease_and_its_route_by_advertisement(admin: Administrator) -> None:
    network = await admin.raise_network(lab())
    guest = await admin.add_guest("lab")
    address = guest.lease_ipv6()
    assert address.startswith("fd77::")
    assert address in {one["address"] for one in await admin.leases(network) if one["family"] == "ipv6"}
    wait_until(lambda: guest.ip("-6", "route", "show", "default"), "the router is advertised")
    assert wait_until(lambda: guest.ping(admin.site.outside.ipv6), "the outside answers over IPv6")


async def test_an_advertisement_says_that_addresses_come_by_dhcp(admin: Administrator) -> None:
    await admin.raise_network(lab())
    guest = await admin.add_guest("lab")
    shown = guest.run("rdisc6", "-1", "-r", "5", "-w", "1000", "eth0", timeout=20)
    assert "Stateful address conf.    :          Yes" in shown
    assert "Prefix                   : fd77::/64" in shown


async def test_without_dhcp_a_guest_makes_its_ipv6_address_itself(admin: Administrator) -> None:
    await admin.raise_network({"name": "ra", "mode": "isolated", "addresses": [{"address": "fd78::1/64"}]})
    guest = await admin.add_guest("ra")
    wait_until(lambda: [a for a in guest.addresses("eth0") if a.startswith("fd78::")], "it has an address")
    assert wait_until(lambda: guest.ping("fd78::1"), "the host answers")


async def test_static_hosts_get_their_addresses_and_the_others_do_not(admin: Administrator) -> None:
    dhcp = {
        "ranges": [RANGE4],
        "hosts": [
            {"mac": "52:54:00:00:00:21", "address": "192.168.77.201"},
            {"name": "named", "address": "192.168.77.202"},
        ],
    }
    await admin.raise_network(lab(addresses=[{"address": "192.168.77.1/24", "dhcp": dhcp}]))
    by_mac = await admin.add_guest("lab", name="mac", mac="52:54:00:00:00:21")
    by_name = await admin.add_guest("lab", name="named")
    other = await admin.add_guest("lab", name="other")
    assert by_mac.lease() == "192.168.77.201"
    assert by_name.lease(hostname="named") == "192.168.77.202"
    assert 10 <= int(other.lease().rpartition(".")[2]) <= 99


async def test_what_the_document_says_of_dhcp_reaches_the_guest(admin: Administrator, tmp_path: Path) -> None:
    dhcp = {
        "ranges": [RANGE4 | {"lease": {"expiry": 5, "unit": "minutes"}}],
        "bootp": {"file": "pxelinux.0", "server": "192.168.77.9"},
        "options": [{"option": 42, "values": ["192.168.77.8"]}],
    }
    network = await admin.raise_network(
        lab(addresses=[{"address": "192.168.77.1/24", "dhcp": dhcp}], mtu=1400, domain={"name": "lab.example"})
    )
    guest = await admin.add_guest("lab")
    got = offered(guest, tmp_path, "mtu", "ntpsrv")
    assert got["lease"] == "300"
    assert (got["router"], got["dns"], got["domain"]) == ("192.168.77.1", "192.168.77.1", "lab.example")
    assert (got["mtu"], got["ntpsrv"]) == ("1400", "192.168.77.8")
    assert (got["boot_file"], got["siaddr"]) == ("pxelinux.0", "192.168.77.9")
    (lease,) = await admin.leases(network)
    assert 0 < lease["expiry"] - time.time() <= 300


async def test_an_isolated_network_names_no_router(admin: Administrator, tmp_path: Path) -> None:
    await admin.raise_network(lab(mode="isolated", nat=None))
    guest = await admin.add_guest("lab")
    assert "router" not in offered(guest, tmp_path)


async def test_a_guest_boots_its_file_by_tftp(admin: Administrator, tmp_path: Path) -> None:
    root = admin.site.root / "tftp"
    root.mkdir(exist_ok=True)
    (root / "kernel").write_text("boot me\n")
    await admin.raise_network(lab(addresses=[{"address": "192.168.77.1/24", "tftp_root": str(root)}]))
    guest = await admin.add_guest("lab", "192.168.77.10/24")
    assert guest.run("curl", "-s", "--max-time", "10", "tftp://192.168.77.1/kernel") == "boot me\n"


async def test_a_lease_outlives_the_stop_of_its_network(admin: Administrator) -> None:
    network = await admin.raise_network(lab())
    first = await admin.add_guest("lab", mac="52:54:00:00:00:31")
    address = first.lease()
    await admin.stop(network)
    assert [one["address"] for one in await admin.leases(network)] == [address]
    await admin.start(network)
    again = await admin.add_guest("lab", name="again", mac="52:54:00:00:00:31")
    assert again.lease() == address


async def test_a_lease_given_up_is_announced_and_no_longer_listed(admin: Administrator) -> None:
    network = await admin.raise_network(lab())
    guest = await admin.add_guest("lab")
    client = guest.start("udhcpc", "-i", "eth0", "-f", "-n", "-R", "-t", "20", "-T", "1", "-s", str(DHCP_SCRIPT))
    (lease,) = await eventually(lambda: admin.leases(network), "the lease is listed")
    wait_until(lambda: guest.addresses("eth0"), "the client has configured its address")
    removed = await admin.listen("LeaseRemoved", network)
    client.terminate()  # -R: it gives its lease back
    client.wait(timeout=10)
    heard = await eventually(lambda: not removed.empty() and removed.get_nowait(), "the end of the lease is announced")
    assert heard[0]["address"] == lease["address"]
    assert await admin.leases(network) == []
    assert await admin.get(network, NETWORK, "State") == "active"
