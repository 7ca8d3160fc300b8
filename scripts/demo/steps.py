"""The steps of the show. Each returns the seconds of what is worth timing and what was seen, or raises."""

import asyncio
import os
import signal
import socket
import time
from collections.abc import Callable
from typing import Any

from support.client import NETWORK, PORT
from support.events import ADDRESS_GONE, LINK_GONE, TABLE_GONE, Event, EventClock, arrival
from support.netns import Namespace
from support.waiting import eventually

from demo.documents import BLOCK_ICMP, BRIDGE, DEFAULT_NETWORK, GATEWAY
from demo.stage import Stage

Seen = tuple[float, str]
TCP_PORT = 8022
STP = "STP, on in libvirt's default, holds a new port back for 4 s"
TCP_SERVER = f"import socket as s; l = s.create_server(('', {TCP_PORT}))\nwhile 1: l.accept()[0].sendall(b'hello')"


class Show:
    """The steps share the network, the port and the guest's address."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._network = ""
        self._port = ""
        self._address = ""

    async def ready(self) -> Seen:
        """How long the daemon took from exec to READY=1."""
        return self._stage.daemon.ready_after, f"pid {self._stage.daemon.pid} answers on {self._stage.bus}"

    async def start(self) -> Seen:
        """Define libvirt's default network and start it."""
        client = self._stage.client
        self._network = await client.define_network(DEFAULT_NETWORK)
        began = time.perf_counter()
        await client.start(self._network)
        took = time.perf_counter() - began
        addresses = self._stage.host.addresses(BRIDGE)
        assert f"{GATEWAY}/24" in addresses, f"{BRIDGE} has {addresses}"
        return took, f"{BRIDGE} has {', '.join(sorted(addresses))}, dnsmasq is pid {self._dnsmasq()}"

    async def attach(self) -> Seen:
        """Attach a guest's namespace by veth."""
        began = time.perf_counter()
        self._port = await self._stage.client.attach("default", {"kind": "veth", "netns": self._stage.guest.name})
        took = time.perf_counter() - began
        assert self._stage.guest.link("eth0") is not None, "the guest has no eth0"
        return took, f"{await self._stage.client.get(self._port, PORT, 'Device')} leads to the guest's eth0"

    async def lease(self) -> Seen:
        """Have a real client ask for an address."""
        began = time.perf_counter()
        self._address = await asyncio.to_thread(self._stage.guest.lease)
        return time.perf_counter() - began, f"udhcpc got {self._address}; {STP}"

    async def nat(self) -> Seen:
        """Reach a host outside that knows no route back to the guest."""
        took = await self._until(lambda: self._stage.guest.ping(self._stage.outside.ipv4))
        return took, f"{self._stage.outside.ipv4} answers {self._address} without a route back"

    async def block(self) -> Seen:
        """Put a filter in force: pings stop, TCP goes on."""
        stage = self._stage
        stage.guest.start("python3", "-c", TCP_SERVER)
        await eventually(lambda: _greeting(stage.host, self._address), "the guest's TCP server answers")
        assert stage.host.ping(self._address), "the guest must answer before it is filtered"
        await stage.client.define_filter(BLOCK_ICMP)
        began = time.perf_counter()
        await stage.client.call(self._port, PORT, "SetFilter", "sa{sv}", "blockicmp", {})
        took = time.perf_counter() - began
        answered = await asyncio.to_thread(stage.host.ping, self._address, count=3, wait=0.5)
        assert answered == 0, f"{answered} of 3 pings passed the filter"
        assert _greeting(stage.host, self._address) == "hello", "TCP does not pass any more"
        return took, "0 of 3 pings answered, TCP still is"

    async def unblock(self) -> Seen:
        """Take the filter away again."""
        stage = self._stage
        began = time.perf_counter()
        await stage.client.call(self._port, PORT, "SetFilter", "sa{sv}", "", {})
        took = time.perf_counter() - began
        answered = await asyncio.to_thread(stage.host.ping, self._address, count=3)
        assert answered == 3, f"{answered} of 3 pings answered"
        return took, "3 of 3 pings answered"

    async def flushed_rules(self) -> Seen:
        """Somebody flushes every rule of the host; tables that are the daemon's own survive that."""
        stage = self._stage
        tables = self._tables()
        assert tables, "vnetd has no tables"
        if not all("owner" in table.get("flags", ()) for table in tables):
            return await self._heals(TABLE_GONE, "nft", "flush", "ruleset", holds=self._masqueraded)
        await asyncio.to_thread(stage.host.run, "nft", "flush", "ruleset")
        assert self._tables(), "vnetd's tables are gone although it owns them"
        took = await self._until(lambda: stage.guest.ping(stage.outside.ipv4))
        return took, "vnetd owns its tables: they were left alone, and the guest reaches the outside"

    async def deleted_bridge(self) -> Seen:
        """Somebody deletes the bridge."""
        return await self._heals(LINK_GONE, "ip", "link", "delete", BRIDGE, holds=self._plugged_in)

    async def flushed_addresses(self) -> Seen:
        """Somebody takes the bridge's addresses away."""
        flush = ("ip", "address", "flush", "dev", BRIDGE)
        return await self._heals(ADDRESS_GONE, *flush, holds=lambda: self._stage.host.addresses(BRIDGE))

    async def killed_dnsmasq(self) -> Seen:
        """Somebody kills dnsmasq; its successor knows the lease."""
        old = self._dnsmasq()
        healed = await self._healed()
        began = time.perf_counter()
        os.kill(old, signal.SIGKILL)
        await asyncio.wait_for(healed.get(), 10)
        took = time.perf_counter() - began
        new = self._dnsmasq()
        assert new != old, "no other dnsmasq runs"
        again = await asyncio.to_thread(self._stage.guest.lease)
        assert again == self._address, f"the guest had {self._address} and was given {again}"
        return took, f"pid {new} instead of {old}; the guest keeps {again}"

    async def stop(self) -> Seen:
        """Stop the network: nothing stays."""
        began = time.perf_counter()
        await self._stage.client.stop(self._network)
        took = time.perf_counter() - began
        assert self._stage.host.link(BRIDGE) is None, f"{BRIDGE} is still there"
        return took, f"{BRIDGE} and what hung on it are gone"

    async def _heals(self, event: Event, *command: str, holds: Callable[[], Any]) -> Seen:
        """Do damage; time from the kernel's report of it to the daemon's signal; then the guest must get out again."""
        stage = self._stage
        healed = await self._healed()
        before = await stage.client.get(self._network, NETWORK, "HealedCount")
        mark = BRIDGE if event is LINK_GONE else ""
        with EventClock(stage.host, event, mark) as clock:
            damage = clock.heard(lambda: stage.host.run(*command))
            gone, (repaired, (what, _)) = await asyncio.gather(damage, arrival(healed))
        await eventually(holds, f"everything is back after {' '.join(command)}")
        await self._until(lambda: stage.guest.ping(stage.outside.ipv4, wait=0.2))
        back = time.perf_counter() - gone
        count = await stage.client.get(self._network, NETWORK, "HealedCount")
        assert count > before, f"HealedCount stayed at {count}"
        return repaired - gone, f"repaired: {what}; the guest reaches the outside {back * 1000:.0f} ms after the damage"

    async def _healed(self) -> "asyncio.Queue[list[Any]]":
        return await self._stage.client.listen("Healed", self._network)

    async def _until(self, condition: Callable[[], Any]) -> float:
        """Seconds until a blocking condition holds."""
        began = time.perf_counter()
        await eventually(lambda: asyncio.to_thread(condition), deadline=20)
        return time.perf_counter() - began

    def _tables(self) -> list[dict[str, Any]]:
        tables = [entry["table"] for entry in self._stage.host.nft() if "table" in entry]
        return [table for table in tables if table["name"] == "vnetd"]

    def _masqueraded(self) -> bool:
        return bool(self._stage.guest.ping(self._stage.outside.ipv4))

    def _plugged_in(self) -> bool:
        ports = self._stage.host.ip("link", "show", "master", BRIDGE)
        return bool(ports) and all(port["operstate"] == "UP" for port in ports)

    def _dnsmasq(self) -> int:
        """The pid of the one dnsmasq that serves."""
        (file,) = (self._stage.daemon.root / "run/vnetd/dnsmasq").glob("*.pid")
        return int(file.read_text())


def _greeting(host: Namespace, address: str) -> str:
    """What the guest's TCP server says to the host, "" if it cannot be reached."""
    try:
        with host.entered(), socket.create_connection((address, TCP_PORT), timeout=2) as connection:
            return connection.recv(16).decode()
    except OSError:
        return ""
