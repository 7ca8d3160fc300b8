"""A whole host in memory, whose every refusal and delay a test decides.

What is on it stays when a daemon ends; a second daemon on the same host is a restart. Each verb gives way to other
tasks before and after it acts, as the real host's do, so tasks interleave here as they would on threads.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

from support.memory_calls import Call, Hook, nothing
from support.memory_capabilities import MemoryCapabilities
from support.memory_devices import MemoryFunctions, MemoryMacvtaps, MemoryPasst
from support.memory_dnsmasq import MemoryDnsmasq
from support.memory_kernel import BOOT_ID, MemoryKernel
from support.memory_namespaces import MemoryNamespaces
from support.memory_nft import MemoryCommit, MemoryNft
from support.memory_packets import MemoryPackets
from support.memory_resolver import MemoryResolver
from support.memory_store import MemoryStore
from support.memory_taps import MemoryTaps

from vnetd.host.events import HostEvent
from vnetd.plan.kernel import AddAddress, AddRoute, Operation, SetLink
from vnetd.plan.links import KernelRoute, Link
from vnetd.plan.rules import Fragment


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


class RulesSeam(Seam):
    """A transaction that is handed on passes it when it is done."""

    def committing(self, remove: Fragment, add: Fragment) -> MemoryCommit:
        return MemoryCommit(partial(self.commit, remove, add))


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
        self.before: Hook = nothing
        """Awaited before each call; what it raises is how the call fails."""
        self._listeners: list[Callable[[HostEvent], None]] = []
        self.links.subscribe(self.announce)
        self.rules.subscribe(self.announce)
        self.kernel: Any = Seam(self, "kernel", self.links)
        self.nft: Any = RulesSeam(self, "nft", self.rules)
        self.taps: Any = Seam(self, "taps", self.tap_devices)
        self.macvtaps: Any = Seam(self, "macvtaps", self.macvtap_nodes)
        self.functions: Any = Seam(self, "functions", self.cards)
        self.passt: Any = Seam(self, "passt", self.passts)
        self.namespaces: Any = Seam(self, "namespaces", self.guests)
        self.dnsmasq: Any = Seam(self, "dnsmasq", self.processes)
        self.resolver: Any = Seam(self, "resolver", self.name_servers)
        self.capabilities = MemoryCapabilities()
        self.store: Any = Seam(self, "store", self.files)
        self.tap_devices.step = self.guests.step = self.macvtap_nodes.step = self._step
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

    async def _step(self, call: Call) -> None:
        """Part of a call that does several things in one hop: it can be refused by itself."""
        self.calls.append(call)
        await self.before(call)

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


def host_with_uplink() -> MemoryHost:
    """A host that is connected."""
    host = MemoryHost()
    host.connect()
    return host
