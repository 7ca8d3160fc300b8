"""A whole host in memory, whose every refusal and delay a test decides.

What is on it stays when a daemon ends; a second daemon on the same host is a restart. Each verb gives way to other
tasks before and after it acts, as the real host's do, so tasks interleave here as they would on threads.
"""

import asyncio
import errno
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address, ip_interface, ip_network
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID

from support.memory_devices import MemoryFunctions, MemoryMacvtaps, MemoryPasst
from support.memory_dnsmasq import MemoryDnsmasq
from support.memory_kernel import BOOT_ID, MemoryKernel
from support.memory_nft import MemoryNft
from support.memory_resolver import MemoryResolver
from support.memory_store import MemoryStore
from support.memory_taps import MemoryTaps
from support.waiting import eventually

from vnetd.host.events import HostEvent, NamespaceEvent
from vnetd.model.base import IPAddress, IPInterface
from vnetd.model.capability import ABILITIES, Capability
from vnetd.model.errors import HostError, NotFound
from vnetd.packets.sightings import Packet
from vnetd.plan.kernel import AddAddress, AddRoute, Operation, SetLink
from vnetd.plan.links import KernelRoute, Link
from vnetd.reconcile.desired import Surroundings
from vnetd.service.services import ServiceRoot
from vnetd.service.views import Caller, NetworkView, Notice

ROOT = Caller(0, name=":1.1", administrator=True)
RUN, STATE = Path("/run/vnetd"), Path("/var/lib/vnetd")
READING = {
    "view",
    "view_with",
    "link",
    "links",
    "links_named",
    "host_routes",
    "sysctls",
    "table",
    "chain",
    "set",
    "observe",
    "leases",
    "upstream",
}
READING |= {"traffic", "neighbours", "adopt", "load", "broken", "installed"}
READING |= {"possessions", "port_vlans", "settings"}
READING |= {"held", "of", "at", "serves", "functions"}


@dataclass(frozen=True, slots=True)
class Call:
    """A verb somebody called: ``kernel.CreateBridge``, ``nft.commit``, ``store.save`` …, and what with."""

    verb: str
    arguments: tuple[Any, ...]

    @property
    def changes(self) -> bool:
        """Whether it asks for a change."""
        return self.verb.partition(".")[2] not in READING

    @property
    def words(self) -> str:
        """What a failure of it is about, for the error."""
        first = self.arguments[0] if self.arguments else ""
        return str(
            getattr(first, "name", None) or getattr(first, "network", None) or "/".join(map(str, self.arguments[:2]))
        )


Hook = Callable[[Call], Awaitable[None]]


async def _nothing(_: Call) -> None:
    """What happens before a call unless a test has other plans."""


class MemoryNamespaces:
    """Namespaces of guests, by name; ``raised`` are the devices set up inside, ``inside`` those moved there."""

    def __init__(self, kernel: MemoryKernel, announce: Callable[[HostEvent], None]) -> None:
        self._kernel = kernel
        self._announce = announce
        self.names = {"guest"}
        self.owners: dict[str, int | None] = {os.devnull: 0}
        self.inside: dict[str, Link] = {}
        self.raised: list[str] = []
        self.configured: dict[str, list[str]] = {}
        """Addresses and gateways by device."""

    async def open(self, reference: str) -> int:
        """A descriptor of one that exists."""
        if reference not in self.names:
            raise NotFound(f"there is no network namespace {reference!r}")
        return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    async def configure_peer(
        self, netns: int, name: str, *, addresses: Sequence[IPInterface] = (), gateways: Sequence[IPAddress] = ()
    ) -> None:
        """Address a device inside, set it up and route through it."""
        os.fstat(netns)  # an error for one that was closed
        self.raised.append(name)
        self.configured[name] = [str(one) for one in (*addresses, *gateways)]

    async def owner(self, netns: int) -> int | None:
        """Whoever a test says: by name of the namespace."""
        return self.owners[os.readlink(f"/proc/self/fd/{netns}")]

    async def number(self, netns: int) -> int:
        """There is one namespace."""
        os.fstat(netns)
        return 0

    async def move(self, netns: int, device: str, name: str) -> None:
        """Take a link away and keep it here; where its name is taken, under its own."""
        entry = self._kernel.find(device)
        if entry is None:
            raise HostError("move link", device, errno.ENODEV)
        taken = name in self.inside
        self.inside[device if taken else name] = entry.link
        self._kernel.remove(entry.link.index)
        if taken:
            raise HostError("move link", device, errno.EEXIST)

    async def link(self, number: int, name: str) -> Link | None:
        """One that is here; it is not if its lower device went."""
        link = self.inside.get(name) if number == 0 else None
        return link if link and link.lower in self._kernel.entries else None

    async def delete(self, number: int, name: str, alias: str) -> None:
        """Take one away."""
        if (link := await self.link(number, name)) and link.alias == alias:
            del self.inside[name]
            self._announce(NamespaceEvent(number))

    def vanish(self) -> None:
        """The namespace ends with all that is in it."""
        self.inside.clear()
        self._announce(NamespaceEvent(0))


class MemoryCapabilities:
    """A host that can do everything but what a test puts into ``lacking``, with the reason."""

    def __init__(self) -> None:
        self.lacking: dict[str, str] = {}
        self._known: tuple[Capability, ...] = ()

    async def all(self) -> tuple[Capability, ...]:
        """What was there at the first question."""
        if not self._known:
            self._known = tuple(Capability(n, n not in self.lacking, self.lacking.get(n, "")) for n in ABILITIES)
        return self._known

    def forget(self) -> None:
        """Look anew at the next question."""
        self._known = ()


class MemoryPackets:
    """``host.Packets``: what a test shows."""

    def __init__(self) -> None:
        self.problem = ""
        self._listeners: list[Callable[[Packet], None]] = []

    def subscribe(self, listener: Callable[[Packet], None]) -> None:
        """Show packets to ``listener`` too."""
        self._listeners.append(listener)

    def deafen(self) -> None:
        """Nobody listens any more."""
        self._listeners.clear()

    def show(self, packet: Packet) -> None:
        """The rules showed this packet."""
        for listener in self._listeners:
            listener(packet)


class Seam:
    """One protocol of the host: every call passes the host's ``before`` and gives way to other tasks."""

    def __init__(self, host: "MemoryHost", name: str, behind: Any) -> None:
        self._host = host
        self._name = name
        self._behind = behind

    def __getattr__(self, verb: str) -> Any:
        found = getattr(self._behind, verb)
        if not asyncio.iscoroutinefunction(found):
            return found
        return partial(self._call, verb, found)

    async def _call(self, verb: str, function: Callable[..., Awaitable[Any]], *args: Any, **kwargs: Any) -> Any:
        if verb != "apply":
            return await self._host.pass_on(Call(f"{self._name}.{verb}", args), partial(function, *args, **kwargs))
        for operation in args[0]:  # each fails, or is cancelled, by itself
            call = Call(f"{self._name}.{type(operation).__name__}", (operation,))
            await self._host.pass_on(call, partial(function, [operation]))
        return None


class MemoryHost:
    """``host.Host``. The parts behind the seams are ``links``, ``rules``, ``processes``, ``files``, ``guests``."""

    def __init__(self) -> None:
        self.links = MemoryKernel()
        self.rules = MemoryNft()
        self.files = MemoryStore()
        self.processes = MemoryDnsmasq(self.announce)
        self.guests = MemoryNamespaces(self.links, self.announce)
        self.tap_devices = MemoryTaps(self.links)
        self.packets = MemoryPackets()
        self.macvtap_nodes = MemoryMacvtaps(self.links, self.tap_devices)
        self.cards = MemoryFunctions()
        self.passts = MemoryPasst(self.announce)
        self.name_servers = MemoryResolver(lambda name: link.index if (link := self.link(name)) else 0)
        self.calls: list[Call] = []
        self.before: Hook = _nothing
        """Awaited before each call; what it raises is how the call fails."""
        self._listeners: list[Callable[[HostEvent], None]] = []
        self.links.subscribe(self.announce)
        self.rules.subscribe(self.announce)
        self.kernel: Any = Seam(self, "kernel", self.links)
        self.nft: Any = Seam(self, "nft", self.rules)
        self.taps: Any = Seam(self, "taps", self.tap_devices)
        self.macvtaps: Any = Seam(self, "macvtaps", self.macvtap_nodes)
        self.functions: Any = Seam(self, "functions", self.cards)
        self.passt: Any = Seam(self, "passt", self.passts)
        self.namespaces: Any = Seam(self, "namespaces", self.guests)
        self.dnsmasq: Any = Seam(self, "dnsmasq", self.processes)
        self.resolver: Any = Seam(self, "resolver", self.name_servers)
        self.capabilities = MemoryCapabilities()
        self.store: Any = Seam(self, "store", self.files)
        self.events = self

    def subscribe(self, listener: Callable[[HostEvent], None]) -> None:
        """``host.Events``: call ``listener`` for every event from now on."""
        self._listeners.append(listener)

    def announce(self, event: HostEvent) -> None:
        """Tell everybody, later, as a socket would."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return
        for listener in self._listeners:
            loop.call_soon(listener, event)

    def deafen(self) -> None:
        """The daemon is gone: nobody listens."""
        self.packets.deafen()
        self._listeners.clear()

    async def pass_on(self, call: Call, act: Callable[[], Awaitable[Any]]) -> Any:
        """Carry out a call, giving way on both sides of it. Once it acts it comes to its end, as on a thread."""
        self.calls.append(call)
        await asyncio.sleep(0)
        await self.before(call)
        result = await act()
        await asyncio.sleep(0)
        return result

    def perform(self, *operations: Operation) -> None:
        """What another process does to links."""
        self.links.foreign(*operations)

    def link(self, name: str) -> Link | None:
        """A link."""
        entry = self.links.find(name)
        return entry.link if entry else None

    def devices(self) -> set[str]:
        """Names of all links but the loopback."""
        return {entry.link.name for entry in self.links.entries.values()} - {"lo"}

    def boot(self) -> None:
        """The machine starts anew: only what is on disk stays."""
        fresh = MemoryHost()
        fresh.files.files = {kind: texts for kind, texts in self.files.files.items() if not kind.startswith("run/")}
        fresh.files.shipped = self.files.shipped
        fresh.processes.kept = self.processes.kept
        fresh.links.values[BOOT_ID] = f"{self.links.values[BOOT_ID]} and another"
        fresh.connect()
        self.__dict__.update(fresh.__dict__)

    def connect(self) -> None:
        """Give the host an uplink."""
        self.links.create("eth0", "")
        self.perform(
            SetLink("eth0", up=True),
            AddAddress("eth0", ip_interface("203.0.113.2/24")),
            AddRoute("eth0", KernelRoute(ip_network("0.0.0.0/0"), ip_address("203.0.113.1"))),
        )

    def state(self) -> dict[str, object]:
        """All that vnetd may change or leave behind, flat: links, rules, sysctls, processes and documents."""
        found: dict[str, object] = {}
        for entry in self.links.entries.values():
            link = entry.link
            found[f"link {link.name}"] = (link, frozenset(entry.addresses), frozenset(entry.routes))
            found[f"name servers of {link.name}"] = self.name_servers.shown(link.name)
            found[f"limits of {link.name}"] = self.links.limits.of(link.index)
            found[f"more of {link.name}"] = (
                dict(entry.details),
                dict(entry.permanent),
                tuple(entry.proxies),
                dict(entry.vlans),
            )
        found["routes"] = frozenset(self.links.further_routes)
        found["policy rules"] = tuple(self.links.policy_rules)
        found |= {f"sysctl {'/'.join(path)}": value for path, value in self.links.values.items()}
        found |= {f"inside {name}": link for name, link in self.guests.inside.items()}
        found |= {f"dnsmasq {network}": process.started_with for network, process in self.processes.running.items()}
        found |= {f"files {network}": dict(texts) for network, texts in self.processes.files.items()}
        found |= {f"passt {port}": instance for port, instance in self.passts.running.items()}
        found |= {f"vf {pf} {vf}": state for pf, card in self.links.cards.items() for vf, state in card.items()}
        for kind, texts in self.files.files.items():
            found |= {f"document {kind}/{name}": text for name, text in texts.items() if text != "{}"}
        return found | self.ruleset()

    def ruleset(self) -> dict[str, object]:
        """Everything in vnetd's tables, by name."""
        found: dict[str, object] = {}
        for family, table in self.rules.tables.items():
            found |= {f"chain {family} {name}": chain.rules for name, chain in table.chains.items()}
            for name, members in table.elements.items():
                found[f"set {family} {name}"] = frozenset(members.values())
        return found


def difference(before: dict[str, object], after: dict[str, object]) -> dict[str, tuple[object, object]]:
    """What changed from one state to another: before and after, ``None`` for what was not there."""
    keys = sorted(before.keys() | after.keys())
    return {key: (before.get(key), after.get(key)) for key in keys if before.get(key) != after.get(key)}


def changes(host: MemoryHost, since: int = 0) -> list[Call]:
    """What was asked to be changed."""
    return [call for call in host.calls[since:] if call.changes]


class Refusal:
    """A ``before`` that fails calls: those ``chosen`` says, the first ``times`` of them."""

    def __init__(self, chosen: Callable[[Call], bool], times: int = 1, code: int = errno.EIO) -> None:
        self.refused: list[Call] = []
        self._chosen = chosen
        self._times = times
        self._code = code

    async def __call__(self, call: Call) -> None:
        if len(self.refused) < self._times and self._chosen(call):
            self.refused.append(call)
            raise HostError(call.verb, call.words, self._code)


def nth(number: int) -> Callable[[Call], bool]:
    """The call of this number from now on, not counting what is listed in the background after a change."""
    left = count(number, -1)
    return lambda call: call.verb not in {"nft.chain", "nft.table"} and next(left) == 0


def crash(number: int) -> Hook:
    """A ``before`` that is the end of the daemon at the call of this number: no call acts any more."""
    chosen, over = nth(number), False

    async def end(call: Call) -> None:
        nonlocal over
        over = over or chosen(call)
        if over:
            raise HostError("act", "on anything", "the daemon was killed")

    return end


def verb(*names: str) -> Callable[[Call], bool]:
    """Calls of these verbs."""
    return lambda call: call.verb in names


class Running:
    """A daemon without a front end, and what it told."""

    def __init__(self, host: MemoryHost) -> None:
        self.host = host
        self.services = ServiceRoot(host, Surroundings(STATE, RUN))
        self.notices: list[Notice] = []
        self.services.subscribe(self.notices.append)

    def told(self, kind: type) -> list[Any]:
        """Notices of a kind."""
        return [notice for notice in self.notices if isinstance(notice, kind)]

    async def looked(self) -> None:
        """Return when everything that was touched has been looked at."""
        healer = self.services._loop.healer
        await eventually(lambda: not healer._timers and not healer._looks, "all looks are done")


@asynccontextmanager
async def running(host: MemoryHost) -> AsyncIterator[Running]:
    """A daemon on this host for as long as the block lasts; what it made stays."""
    daemon = Running(host)
    try:
        await daemon.services.start()
        yield daemon
    finally:
        host.deafen()
        await daemon.services.close()
        host.before = _nothing


def lab(name: str = "lab", net: int = 77, **fields: Any) -> str:
    """A NAT network of both families with all that takes a step of its own."""
    addresses = [
        {
            "address": f"192.168.{net}.1/24",
            "dhcp": {"ranges": [{"start": f"192.168.{net}.10", "end": f"192.168.{net}.99"}]},
        },
        {"address": f"fd{net}::1/64"},
    ]
    routes = [{"destination": f"10.{net}.0.0/16", "gateway": f"192.168.{net}.2"}]
    return json.dumps({"name": name, "mode": "nat", "addresses": addresses, "routes": routes, **fields})


def host_with_uplink() -> MemoryHost:
    """A host that is connected."""
    host = MemoryHost()
    host.connect()
    return host


async def defined(daemon: Running, document: str = "") -> NetworkView:
    """A network that is defined and not started."""
    return await daemon.services.networks.define(ROOT, document or lab(), {})


async def raised(daemon: Running, name: str = "lab", net: int = 77, **fields: Any) -> UUID:
    """A network that runs, as ``lab`` makes it."""
    network = await defined(daemon, lab(name, net, **fields))
    await daemon.services.networks.start(ROOT, network.uuid)
    return network.uuid


def view(daemon: Running, name: str = "lab") -> NetworkView:
    """A network as callers see it."""
    return daemon.services.networks.get(name)
