"""A host on which vnetd runs, the world outside it, and the administrator who drives both."""

import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.client import MANAGER, NETWORK, ROOT, Client
from support.daemon import Daemon
from support.netns import Guest, Lab, Namespace, run
from support.outside import Outside, outside_of
from support.private_bus import PrivateBus, private_bus

SYSCTLS = ("net.ipv4.conf.all.forwarding", "net.ipv4.conf.uplink0.forwarding", "net.ipv6.conf.all.forwarding")
BRIDGE_SYSCTLS = ("ipv4/conf/{}/forwarding", "ipv6/conf/{}/forwarding", "ipv6/conf/{}/disable_ipv6")


@dataclass(frozen=True, slots=True)
class Site:
    """A host with an uplink, a running vnetd of its own, and a bus. ``root`` is the daemon's root directory."""

    host: Namespace
    outside: Outside
    bus: PrivateBus
    daemon: Daemon
    root: Path
    bare: frozenset[str]
    """Network devices the host had before vnetd made any."""
    forwarding: Mapping[str, str]
    """What the host forwarded before."""

    def dnsmasq(self, network: str) -> int:
        """Process id of the dnsmasq that serves the network at this path, 0 if none runs."""
        pid = self.runtime_file(network, "pid")
        number = int(pid.read_text()) if pid.exists() and pid.read_text().strip() else 0
        return number if number and Path(f"/proc/{number}/cmdline").exists() else 0

    def runtime_file(self, network: str, suffix: str) -> Path:
        """dnsmasq's file below /run for the network at this path: ``conf``, ``pid``."""
        return self.root / "run/vnetd/dnsmasq" / f"{uuid_of(network)}.{suffix}"

    def data_file(self, network: str, name: str) -> Path:
        """dnsmasq's file below /var/lib for the network at this path: ``hosts``, ``leases`` …"""
        return self.root / "var/lib/vnetd/dnsmasq" / uuid_of(network) / name

    def devices(self) -> set[str]:
        """Network devices beyond those the host had before."""
        return {str(link["ifname"]) for link in self.host.ip("link", "show")} - self.bare

    def ruleset(self) -> dict[str, Any]:
        """What nftables holds, by kind and name: rules in order, elements of sets sorted, no handles or counts.

        Nor what guests have spent of their budgets of packets that are shown: that changes with each packet.
        """
        found: dict[str, Any] = {}
        for entry in self.host.nft():
            ((kind, one),) = entry.items()
            if kind == "rule":
                found[f"chain {one['family']} {one['table']} {one['chain']}"]["rules"].append(_stable(one["expr"]))
            else:
                extra: dict[str, Any] = {"rules": []} if kind == "chain" else {}
                found[f"{kind} {one['family']} {one.get('table', '')} {one['name']}"] = _stable(_lasting(one)) | extra
        return found

    def elements(self) -> list[Any]:
        """What stands in vnetd's sets and maps: all that makes its rules apply to a network or port."""
        return [element for one in self.host.nft() for kind in one for element in _lasting(one[kind]).get("elem", [])]

    def owns_its_tables(self) -> bool:
        """Whether the kernel keeps others off vnetd's tables here (nftables 1.1 and kernel 6.9)."""
        shown = self.host.run("nft", "list", "ruleset")
        return bool(re.search(r"flags .*owner", shown))

    def leftovers(self) -> list[object]:
        """What is on the host beyond what a vnetd without active networks, ports and bindings has there."""
        kinds = "networks", "ports", "bindings", "dnsmasq"
        files = [path for kind in kinds for path in (self.root / "run/vnetd" / kind).glob("*")]
        sysctls = [name for name, value in self.forwarding.items() if self.host.sysctl(name) != value]
        return [*self.devices(), *self.elements(), *files, *sysctls, *self.dnsmasqs()]

    def dnsmasqs(self) -> list[int]:
        """Every dnsmasq among the processes."""
        return [pid for pid in self.processes() if _name(pid) == "dnsmasq"]

    def processes(self) -> list[int]:
        """Those on the host, without one dnsmasq that serves no network: it waits for the next to start."""
        records = (self.root / "run/vnetd/dnsmasq").glob("*.state")
        serving = {int(record.read_text().partition("\n")[0].split()[1]) for record in records}
        pids = sorted(self.host.pids())
        waiting = [pid for pid in pids if pid not in serving and _name(pid) == "dnsmasq"]
        return [pid for pid in pids if pid not in waiting[-1:]]

    def realised(self, bridge: str) -> dict[str, Any]:
        """Everything of a network on ``bridge`` that the kernel holds, without what differs from run to run."""
        sysctls = (*SYSCTLS, *(f"net/{path.format(bridge)}" for path in BRIDGE_SYSCTLS))
        return {
            "links": sorted(_link(link) for link in self.host.ip("link", "show") if link["ifname"] not in self.bare),
            "addresses": sorted(
                (address["local"], address["prefixlen"])
                for link in self.host.ip("address", "show", "dev", bridge)
                for address in link["addr_info"]
            ),
            "routes": sorted(
                (route["dst"], route.get("gateway", ""), route.get("metric", 0))
                for family in ("-4", "-6")
                for route in self.host.ip(family, "route", "show", "dev", bridge)
            ),
            "ruleset": self.ruleset(),
            "sysctls": [self.host.run("sysctl", "-n", name, check=False).strip() for name in sysctls],
        }


def uuid_of(path: str) -> str:
    """The UUID in an object's path."""
    return path.rpartition("/")[2].replace("_", "-")


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def _lasting(one: dict[str, Any]) -> dict[str, Any]:
    """An object of nftables without elements that are budgets: packets make them, and they go by themselves."""
    elements = [element for element in one.get("elem", ()) if not _is_budget(element)]
    rest = {key: value for key, value in one.items() if key != "elem"}
    return rest | {"elem": elements} if elements else rest


def _is_budget(element: Any) -> bool:
    value = element.get("elem", {}) if isinstance(element, dict) else {}
    return any("limit" in part for part in (value, *value.get("stmt", ())))


def _stable(value: Any, unordered: bool = False) -> Any:
    if isinstance(value, dict):
        return {
            key: _stable(one, key in {"elem", "set"})
            for key, one in value.items()
            if key not in {"handle", "packets", "bytes", "expires"}
        }
    if isinstance(value, list):
        stable = [_stable(one) for one in value]
        return sorted(stable, key=lambda one: json.dumps(one, sort_keys=True)) if unordered else stable
    return value


def _link(link: Mapping[str, Any]) -> tuple[object, ...]:
    wanted = "ifname", "address", "mtu", "master", "ifalias"
    bridge = link.get("linkinfo", {}).get("info_data", {})
    options = tuple(str(bridge.get(key, "")) for key in ("stp_state", "forward_delay", "mcast_snooping"))
    return (*(str(link.get(key, "")) for key in wanted), *options, "UP" in link["flags"])


@contextmanager
def site_with_daemon(**options: Any) -> Iterator[Site]:
    """Set everything up with the daemon ready; ``options`` are the daemon's. All of it is gone afterwards."""
    # In memory if possible: what others write to the disk must not slow down dnsmasq, which syncs every lease.
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="vnetd-site-", dir=memory) as name, Lab() as lab, private_bus() as bus:
        root = Path(name)
        root.chmod(0o755)  # dnsmasq's user must be able to pass
        host = lab.namespace("host")
        outside = outside_of(lab, host)
        bare = frozenset(link["ifname"] for link in host.ip("link", "show"))
        forwarding = {name: host.sysctl(name) for name in SYSCTLS}
        with Daemon(host, bus.address, root, **options) as daemon:
            yield Site(host, outside, bus, daemon, root, bare, forwarding)


class Administrator(Client):
    """A client that raises networks and plugs guests of ``lab`` into them, as the host's administrator would."""

    def __init__(self, site: Site, lab: Lab) -> None:
        super().__init__(site.bus.address)
        self.site = site
        self._lab = lab

    async def raise_network(self, document: str | Mapping[str, Any]) -> str:
        """Define and start a network, given as a document or as native JSON's values; returns its path."""
        path = await self.define_network(document if isinstance(document, str) else json.dumps(document))
        await self.start(path)
        return path

    def vacant_guest(self, name: str = "guest") -> Guest:
        """A namespace a guest may live in, without any device. It uses its IPv6 addresses without waiting."""
        inside = self._lab.namespace(name)
        for sysctl in ("accept_dad", "router_solicitation_delay"):
            inside.run("sysctl", "-qw", f"net.ipv6.conf.default.{sysctl}=0")
        return Guest(inside.name)

    async def add_guest(
        self, network: str, *addresses: str, name: str = "guest", gateway: tuple[str, ...] = (), **spec: Any
    ) -> "AttachedGuest":
        """A guest attached by veth, with these addresses on its eth0 and default routes through ``gateway``."""
        inside = self.vacant_guest(name)
        port = await self.attach(network, {"kind": "veth", "netns": inside.path, **spec})
        device = str(await self.get(port, "org.vnetd1.Port", "Device"))
        guest = AttachedGuest(inside.name, device=device, port=port)
        guest.configure(*addresses, gateway=gateway)
        return guest

    async def state(self, network: str) -> str:
        """A network's state."""
        return str(await self.get(network, NETWORK, "State"))

    async def healed(self, network: str) -> int:
        """How many repairs a network has needed."""
        return int(await self.get(network, NETWORK, "HealedCount"))

    async def leases(self, network: str) -> list[dict[str, Any]]:
        """A network's leases."""
        return list(await self.call(network, NETWORK, "GetLeases", "a{sv}", {}))

    async def networks(self) -> dict[str, dict[str, Any]]:
        """All networks as listed, by name."""
        listed = await self.call("/org/vnetd1", "org.vnetd1.Manager", "ListNetworks", "a{sv}", {})
        return {str(one["name"]): one for one in listed}

    async def reconcile(self) -> None:
        """Have everything looked at. Of the rules nothing lingers then."""
        await self.call(ROOT, MANAGER, "Reconcile")

    async def withdraw(self) -> None:
        """Stop and forget all networks and switches."""
        for kind, plural in (("Network", "Networks"), ("Switch", "Switches")):
            for one in await self.call(ROOT, MANAGER, f"List{plural}", "a{sv}", {}):
                if one["active"]:
                    await self.call(one["path"], f"org.vnetd1.{kind}", "Stop")
                if one["persistent"]:
                    await self.call(one["path"], f"org.vnetd1.{kind}", "Undefine")

    async def clear(self) -> None:
        """Stop and forget all that is one's own; nothing may be left over then."""
        await self.withdraw()
        for binding in await self.call(ROOT, MANAGER, "ListBindings", "a{sv}", {}):
            await self.call(binding["path"], "org.vnetd1.Binding", "Delete")
        for one in await self.call(ROOT, MANAGER, "ListFilters", "a{sv}", {}):
            if (self.site.root / "etc/vnetd/filters" / f"{one['name']}.json").exists():
                await self.call(one["path"], "org.vnetd1.Filter", "Undefine")
        await self.reconcile()
        left = self.site.leftovers()
        assert not left, f"left over: {left}"


@dataclass(frozen=True, slots=True)
class AttachedGuest(Guest):
    """A guest attached by vnetd; ``port`` is the port's path."""

    port: str = ""

    def configure(self, *addresses: str, gateway: tuple[str, ...] = ()) -> None:
        """Give its eth0 addresses (with prefix length) and default routes."""
        for address in addresses:
            nodad = ("nodad",) if ":" in address else ()
            run("ip", "-netns", self.name, "address", "add", address, "dev", "eth0", *nodad)
        for router in gateway:
            run("ip", "-netns", self.name, "route", "replace", "default", "via", router, "dev", "eth0")
