"""A switch ``office`` on a host in memory whose uplink has something of everything that moves."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

from support.memory_calls import Call
from support.memory_daemon import ROOT, Running, running
from support.memory_host import MemoryHost, host_with_uplink
from support.policy_rules import rule

from vnetd.plan.kernel import (
    GiveAddress,
    GiveNeighbour,
    GiveProxy,
    GiveRoute,
    GiveRule,
    SetLink,
)
from vnetd.plan.link_dns import LinkDns, LinkDomain, NameServer
from vnetd.plan.possessions import HeldAddress, HeldNeighbour, HeldRoute, NextHop
from vnetd.service.views import SwitchView

NIC_MAC = "52:54:00:aa:00:01"
SECOND = HeldAddress(ip_interface("203.0.113.3/24"), label="eth0:web", valid=3600, preferred=1800)
POLICY = HeldRoute(ip_network("10.8.0.0/16"), (NextHop("eth0", ip_address("203.0.113.1")),), table=7, metric=20)
RULE = rule(100, iif="eth0")
BY_HAND = HeldNeighbour(ip_address("203.0.113.5"), "52:54:00:00:00:05")
DNS = LinkDns(
    (NameServer(ip_address("203.0.113.53")), NameServer(ip_address("2001:db8::53"), 853, "dns.example")),
    (LinkDomain("example"), LinkDomain("corp.example", route_only=True)),
    default_route=True,
    llmnr="no",
    multicast_dns="no",
    dns_over_tls="opportunistic",
    dnssec="no",
)
OPTIONS: dict[str, Any] = {
    "stp": True,
    "priority": 4096,
    "forward_delay": 4,
    "hello_time": 1,
    "max_age": 6,
    "ageing_time": 20,
    "multicast_snooping": False,
}


def office(**fields: Any) -> str:
    """A switch whose uplink's addresses move."""
    return json.dumps({"name": "office", "bridge": "br0", "uplinks": [{"device": "eth0", "migrate": True}], **fields})


def rich_host() -> MemoryHost:
    """A host whose uplink has something of each kind."""
    host = host_with_uplink()
    host.perform(
        SetLink("eth0", mac=NIC_MAC, mtu=1460),
        GiveAddress("eth0", SECOND),
        GiveAddress("eth0", HeldAddress(ip_interface("2001:db8::2/64"))),
        GiveRoute(POLICY),
        GiveRule(RULE),
        GiveNeighbour("eth0", BY_HAND),
        GiveProxy("eth0", ip_address("203.0.113.77")),
    )
    host.links.create("eth1", "")
    host.name_servers.links[index_of(host, "eth0")] = DNS
    return host


def index_of(host: MemoryHost, name: str) -> int:
    link = host.link(name)
    assert link
    return link.index


@asynccontextmanager
async def deaf(host: MemoryHost) -> AsyncIterator[Running]:
    """A daemon that hears no events, so that what it does is what it was asked for."""
    async with running(host) as daemon:
        host.deafen()
        yield daemon


async def define(daemon: Running, document: str = "") -> SwitchView:
    return await daemon.services.switches.define(ROOT, document or office(), {})


async def start(daemon: Running, document: str = "", **options: int) -> SwitchView:
    switch = await define(daemon, document)
    await daemon.services.switches.start(ROOT, switch.uuid, options)
    return view(daemon)


def view(daemon: Running, name: str = "office") -> SwitchView:
    return daemon.services.switches.get(name)


def addresses(host: MemoryHost, name: str) -> set[str]:
    entry = host.links.find(name)
    return {str(address) for address in entry.addresses} if entry else set()


def network_state(host: MemoryHost) -> dict[str, object]:
    """All of the host but vnetd's documents and what the kernel numbers as it likes."""
    return {key: value for key, value in host.state().items() if not key.startswith("document ")}


OWN = {"203.0.113.2/24", "203.0.113.3/24", "2001:db8::2/64"}


async def calls_of(act: Callable[[Running], Awaitable[object]]) -> list[Call]:
    host = rich_host()
    async with deaf(host) as daemon:
        await define(daemon)
        host.calls.clear()
        await act(daemon)
        return list(host.calls)


async def starting(daemon: Running) -> None:
    await daemon.services.switches.start(ROOT, view(daemon).uuid, {})


class Clock:
    """Seconds since the boot, as the test says."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


async def redefine(daemon: Running, **fields: Any) -> None:
    document = json.loads(office(uuid=str(view(daemon).uuid), **{k: v for k, v in fields.items() if k != "confirm"}))
    options = {"confirm": fields["confirm"]} if "confirm" in fields else {}
    await daemon.services.switches.define(ROOT, json.dumps(document), options)
