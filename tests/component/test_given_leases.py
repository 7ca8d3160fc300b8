"""Leases another DHCP server gave are taken over before a network runs, and nothing else gets into dnsmasq's file."""

import time
from typing import Any

import pytest
from support.memory_daemon import ROOT, Running, defined, running
from support.memory_host import host_with_uplink

from vnetd.dnsmasq.leases import parse, render
from vnetd.model.errors import Busy, Invalid

LATER = int(time.time()) + 3600
FOUR = {"address": "192.168.77.20", "mac": "52:54:00:00:00:20", "hostname": "web", "expiry": LATER}
NET = """{"name": "lab", "mode": "nat", "addresses": [
 {"address": "192.168.77.1/24", "dhcp": {"ranges": [{"start": "192.168.77.10", "end": "192.168.77.99"}]}},
 {"address": "fd77::1/64", "dhcp": {"ranges": [{"start": "fd77::10", "end": "fd77::ff"}]}},
 {"address": "192.168.78.1/24"}]}"""


async def give(daemon: Running, *rows: dict[str, Any]) -> None:
    lab = daemon.services.networks.get("lab")
    await daemon.services.networks.set_leases(ROOT, lab.uuid, rows)


async def test_a_network_has_them_before_and_after_it_starts() -> None:
    six = {"address": "fd77::20", "iaid": "7", "client_id": "00:03:00:01:52:54:00:00:00:20", "server_duid": "00:01:02"}
    host = host_with_uplink()
    async with running(host) as daemon:
        lab = await defined(daemon, NET)
        await give(daemon, FOUR, six)
        assert host.processes.kept[str(lab.uuid)] == (
            f"{LATER} 52:54:00:00:00:20 192.168.77.20 web *\nduid 00:01:02\n"
            "0 7 fd77::20 * 00:03:00:01:52:54:00:00:00:20\n"
        )
        await daemon.services.networks.start(ROOT, lab.uuid)
        found = {lease.address: lease for lease in await daemon.services.networks.leases(lab.uuid)}
        assert found["192.168.77.20"].hostname == "web"
        assert found["fd77::20"].mac == "52:54:00:00:00:20"


async def test_its_own_leases_go_before() -> None:
    host = host_with_uplink()
    async with running(host) as daemon:
        lab = await defined(daemon, NET)
        own = f"{LATER} 52:54:00:00:00:99 192.168.77.20 * *\n"
        host.processes.kept[str(lab.uuid)] = own
        await give(daemon, FOUR, {**FOUR, "address": "192.168.77.21"})
        kept = host.processes.kept[str(lab.uuid)]
        assert own in kept and "192.168.77.21 web" in kept and len(kept.splitlines()) == 2


async def test_a_network_that_runs_takes_none() -> None:
    async with running(host_with_uplink()) as daemon:
        lab = await defined(daemon, NET)
        await daemon.services.networks.start(ROOT, lab.uuid)
        with pytest.raises(Busy, match="while it is stopped"):
            await give(daemon, FOUR)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"address": "192.168.78.20"}, "on no subnet on which network lab serves DHCP"),
        ({"address": "10.0.0.1"}, "on no subnet"),
        ({"address": "nonsense"}, "no IP address"),
        ({"mac": ""}, "needs a MAC"),
        ({"mac": "52:54:00:00:00"}, "mac of a lease"),
        ({"hostname": "web\n1 2 3 4 5"}, "hostname of a lease"),
        ({"hostname": "a b"}, "hostname of a lease"),
        ({"client_id": "zz"}, "client_id of a lease"),
        ({"expiry": -1}, "expiry of a lease"),
        ({"expiry": True}, "expiry of a lease"),
        ({"expiry": "soon"}, "expiry of a lease"),
        ({"nonsense": 1}, "unknown key 'nonsense'"),
        ({"address": "fd77::20"}, "needs iaid and client_id"),
    ],
)
async def test_what_makes_no_sense_is_refused_and_nothing_is_written(change: dict[str, Any], why: str) -> None:
    host = host_with_uplink()
    async with running(host) as daemon:
        lab = await defined(daemon, NET)
        with pytest.raises(Invalid, match=why):
            await give(daemon, {**FOUR, "address": "192.168.77.30"}, {**FOUR, **change})
        assert str(lab.uuid) not in host.processes.kept


def test_what_is_rendered_is_read_again() -> None:
    text = (
        "0 52:54:00:00:00:01 192.0.2.1 * *\n5 52:54:00:00:00:02 192.0.2.2 b 01:52:54:00:00:00:02\n"
        "duid 00:01\n7 T12 fd00::1 c 00:03:00:01:52:54:00:00:00:03\n"
    )
    leases = parse(text)
    assert leases is not None and len(leases) == 3
    assert render(leases) == text
