"""Addresses of guests on a host in memory: whose they are, from where, and how old."""

import asyncio
from ipaddress import ip_address

from support.hasty_loop import hastily
from support.memory_daemon import ROOT, defined, lab, running
from support.memory_host import host_with_uplink

from vnetd.plan.links import Neighbour
from vnetd.service.views import AddressView

MINE, THEIRS = "52:54:00:00:00:07", "52:54:00:00:00:08"


@hastily
async def test_neighbours_with_the_guests_mac_are_its_addresses_the_youngest_first() -> None:
    async with running(host_with_uplink()) as daemon:
        network = await defined(daemon, lab("lab", 77))
        await daemon.services.networks.start(ROOT, network.uuid)
        ports = daemon.services.ports
        mine, theirs = [
            (await ports.attach(ROOT, "lab", {"kind": "tap", "mac": mac})).port.uuid for mac in (MINE, THEIRS)
        ]
        assert await ports.addresses(mine) == ()
        daemon.host.links.neighbour_table["virbr0"] = (
            Neighbour(ip_address("10.0.77.9"), MINE, 90),
            Neighbour(ip_address("fd77::9"), MINE, 3),
            Neighbour(ip_address("10.0.77.8"), THEIRS, 1),
        )
        assert await ports.addresses(mine) == (
            AddressView("fd77::9", "ipv6", "neighbour", 3),
            AddressView("10.0.77.9", "ipv4", "neighbour", 90),
        )
        assert await ports.addresses(theirs) == (AddressView("10.0.77.8", "ipv4", "neighbour", 1),)


@hastily
async def test_a_lease_is_as_old_as_its_last_renewal() -> None:
    async with running(host_with_uplink()) as daemon:
        network = await defined(daemon, lab("lab", 77))
        await daemon.services.networks.start(ROOT, network.uuid)
        ports = daemon.services.ports
        mine = (await ports.attach(ROOT, "lab", {"kind": "tap", "mac": MINE})).port.uuid
        line = "{} " + MINE + " 192.168.77.10 web1 *\n4102444800 " + THEIRS + " 192.168.77.11 web2 *\n"

        async def age() -> int | None:
            found = await ports.addresses(mine)
            assert [(one.address, one.family, one.source) for one in found] in (
                [], [("192.168.77.10", "ipv4", "lease")],
            )  # fmt: skip
            return found[0].age if found else None

        daemon.host.processes.write(str(network.uuid), "leases", line.format(4102444800))
        await asyncio.sleep(30)
        assert await age() in {29, 30}
        daemon.host.processes.write(str(network.uuid), "leases", line.format(4102444800))
        await asyncio.sleep(10)
        assert await age() in {39, 40}, "written again is not renewed"
        daemon.host.processes.write(str(network.uuid), "leases", line.format(4102448400))
        await asyncio.sleep(5)
        assert await age() in {4, 5}
        daemon.host.processes.write(str(network.uuid), "leases", "")
        await asyncio.sleep(5)
        assert await age() is None
