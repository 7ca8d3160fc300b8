"""A host whose uplink's addresses move goes on resolving names: systemd-resolved is told of the bridge, and back."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from support.client import MANAGER, ROOT, Client
from support.daemon import Daemon
from support.netns import Lab, Namespace
from support.private_bus import private_bus
from support.resolved import POLICY, UNPREPARED, RunningResolved, prepared, resolved
from support.waiting import eventually, wait_until

SWITCH = "org.vnetd1.Switch"
HOST, PEER = "192.0.2.2", "192.0.2.1"
NAME, ADDRESS = "www.office.example", "198.51.100.5"
SETTINGS = (
    ("dns", "nic0", PEER, "192.0.2.7:5353#dns.example"),
    ("domain", "nic0", "office.example", "~corp.example"),
    ("default-route", "nic0", "yes"),
    ("llmnr", "nic0", "no"),
    ("nta", "nic0", "office.example"),
)

pytestmark = pytest.mark.skipif(not prepared(), reason=UNPREPARED)


class World:
    """A host with a card, a resolver and vnetd, and at the card's other end a machine with a name server."""

    def __init__(self, host: Namespace, resolver: RunningResolved, daemon: Daemon, client: Client) -> None:
        self.host, self.resolver, self.daemon, self.client = host, resolver, daemon, client

    async def define(self) -> str:
        document = {"name": "office", "bridge": "br0", "uplinks": [{"device": "nic0", "migrate": True}]}
        return str(await self.client.call(ROOT, MANAGER, "DefineSwitch", "sa{sv}", json.dumps(document), {}))

    async def start(self, path: str) -> None:
        await self.client.call(path, SWITCH, "Start", "a{sv}", {})

    async def get(self, path: str, name: str) -> Any:
        return await self.client.get(path, SWITCH, name)

    def resolves(self) -> bool:
        return ADDRESS in self.resolver.knows(NAME)


@pytest.fixture
async def world(lab: Lab, root: Path) -> AsyncIterator[World]:
    host, peer = lab.namespace("host"), lab.namespace("peer")
    host.run("ip", "link", "add", "nic0", "type", "veth", "peer", "name", "card", "netns", peer.name)
    for namespace, line in ((peer, f"{PEER}/24 dev card"), (host, f"{HOST}/24 dev nic0")):
        namespace.run("ip", "address", "add", *line.split())
        namespace.run("ip", "link", "set", line.split()[-1], "up")
    host.run("ip", "route", "add", "default", "via", PEER)
    serving = ("--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--pid-file")
    server = peer.start(
        "dnsmasq", *serving, f"--listen-address={PEER}", "--bind-interfaces", f"--address=/{NAME}/{ADDRESS}"
    )
    with private_bus(more=POLICY) as bus, resolved(bus, host.path) as resolver:
        for line in SETTINGS:
            resolver.ctl(*line)
        with Daemon(host, bus.address, root) as daemon:
            async with Client(bus.address) as client:
                made = World(host, resolver, daemon, client)
                wait_until(made.resolves, "names are resolved")
                yield made
    server.kill()
    server.wait()


async def test_name_servers_move_with_the_addresses_and_come_back(world: World) -> None:
    before = world.resolver.shown("nic0")
    assert (before["dns"], before["domain"]) == (f"{PEER} 192.0.2.7:5353#dns.example", "office.example ~corp.example")
    path = await world.define()
    await world.start(path)
    assert await world.get(path, "State") == "active"
    await eventually(lambda: world.resolver.shown("br0") == before)
    assert [world.resolver.shown("nic0")[kind] for kind in ("dns", "domain", "nta")] == ["", "", ""]
    await eventually(world.resolves, "names are resolved through the bridge")
    await world.client.call(path, SWITCH, "Stop")
    await eventually(world.resolves, "names are resolved as before")
    assert world.resolver.shown("nic0") == before


async def test_a_resolver_that_hangs_costs_the_host_no_address_and_is_told_later(world: World) -> None:
    before = world.resolver.shown("nic0")
    path = await world.define()
    world.resolver.pause()
    await world.start(path)
    assert world.host.addresses("br0") == {f"{HOST}/24"}
    (problem,) = await world.get(path, "Problems")
    assert "of nic0 to br0: systemd-resolved: no answer" in problem
    world.resolver.resume()
    await world.client.call(ROOT, MANAGER, "Reconcile")
    assert (await world.get(path, "State"), await world.get(path, "Problems")) == ("active", [])
    assert world.resolver.shown("br0") == before


async def test_a_bridge_that_somebody_deletes_comes_back_with_its_name_servers(world: World) -> None:
    before = world.resolver.shown("nic0")
    path = await world.define()
    await world.start(path)
    world.host.run("ip", "link", "delete", "br0")
    await eventually(lambda: world.host.addresses("br0") == {f"{HOST}/24"})
    await eventually(lambda: world.resolver.shown("br0") == before)
    await eventually(world.resolves)
