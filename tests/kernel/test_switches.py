"""Switches on the kernel: the host goes on being reachable while its addresses move, and gets everything back."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from support.client import MANAGER, ROOT, Client, Refused, variant
from support.daemon import Daemon
from support.netns import Lab, Namespace
from support.private_bus import PrivateBus
from support.waiting import eventually, wait_until

SWITCH = "org.vnetd1.Switch"
MAC = "52:54:00:aa:00:01"
HOST4, PEER4, HOST6, PEER6 = "192.0.2.2", "192.0.2.1", "2001:db8::2", "2001:db8::1"
SETTINGS = f"""
link set nic0 address {MAC} mtu 1480
link set nic0 up
address add {HOST4}/24 broadcast 192.0.2.255 dev nic0
address add 192.0.2.3/24 dev nic0 label nic0:web
address add 192.0.2.4/24 dev nic0 valid_lft 5000 preferred_lft 4000
address add {HOST6}/64 dev nic0 nodad
route add default via {PEER4} dev nic0 metric 100 proto dhcp
route add default via {PEER4} dev nic0 table 77 src 192.0.2.3
route add 10.20.0.0/16 dev nic0 nexthop via {PEER4} dev nic0 weight 3 nexthop via 192.0.2.9 dev nic0
route add 10.30.0.0/16 dev nic0 scope link proto 42
-6 route add default via {PEER6} dev nic0 metric 512
neighbour add 192.0.2.5 lladdr 52:54:00:00:00:05 dev nic0 nud permanent
-6 neighbour add 2001:db8::5 lladdr 52:54:00:00:00:05 dev nic0 nud permanent router
rule add priority 100 iif nic0 fwmark 0x7/0xff lookup 77
rule add priority 100 oif nic0 ipproto udp dport 53 lookup 77
-6 rule add priority 100 iif nic0 from 2001:db8:5::/48 lookup 77
neighbour add proxy 192.0.2.77 dev nic0
-6 neighbour add proxy 2001:db8::77 dev nic0
"""
"""What the host has on its card, as ``ip`` lines."""


class World:
    """A host with one network card, a machine at its other end, and vnetd on a bus of its own."""

    def __init__(self, host: Namespace, peer: Namespace, daemon: Daemon, client: Client) -> None:
        self.host, self.peer, self.daemon, self.client = host, peer, daemon, client

    async def define(self, options: dict[str, Any] | None = None, **fields: Any) -> str:
        document = {"name": "office", "bridge": "br0", "uplinks": [{"device": "nic0", "migrate": True}], **fields}
        values = {key: variant(value) for key, value in (options or {}).items()}
        return str(await self.client.call(ROOT, MANAGER, "DefineSwitch", "sa{sv}", json.dumps(document), values))

    async def start(self, path: str, **options: int) -> None:
        values = {key: variant(value) for key, value in options.items()}
        await self.client.call(path, SWITCH, "Start", "a{sv}", values)

    async def get(self, path: str, name: str) -> Any:
        return await self.client.get(path, SWITCH, name)

    async def add_and_see_recorded(self, address: str) -> None:
        """Add an address to the bridge and return once the daemon has it on record."""
        self.host.run("ip", "address", "add", address, "dev", "br0")
        (record,) = (self.daemon.root / "run/vnetd/switches").glob("*.json")
        await eventually(lambda: address in record.read_text(), "on record")

    def possessions(self, device: str) -> dict[str, Any]:
        """What hangs on a device, without what differs from device to device or ticks."""
        addresses = [
            {key: one.get(key, "") for key in ("local", "prefixlen", "broadcast", "scope", "noprefixroute")}
            | {"label": "" if one.get("label") == device else one.get("label", "")}
            | {"lasts": one["valid_life_time"] == 0xFFFFFFFF}
            for link in self.host.ip("address", "show", "dev", device)
            for one in link["addr_info"]
            if one["scope"] != "link"
        ]
        routes = [
            json.dumps(_plain(route, device), sort_keys=True)
            for family in ("-4", "-6")
            for route in self.host.ip(family, "route", "show", "table", "all")
            if _of(route, device)
        ]
        proxies = sorted(
            one["dst"]
            for family in ("-4", "-6")
            for one in self.host.ip(family, "neighbour", "show", "proxy")
            if one["dev"] == device
        )
        neighbours = [
            (one["dst"], one["lladdr"], "router" in one)
            for family in ("-4", "-6")
            for one in self.host.ip(family, "neighbour", "show", "dev", device, "nud", "permanent")
        ]
        return {
            "addresses": addresses,
            "routes": sorted(routes),
            "rules": self.rules(device),
            "neighbours": neighbours,
            "proxies": proxies,
        }

    def rules(self, device: str) -> list[dict[str, Any]]:
        """Rules of policy routing about a device, in order."""
        return [
            {key: "it" if value == device else value for key, value in rule.items() if not key.endswith("_detached")}
            for family in ("-4", "-6")
            for rule in self.host.ip(family, "rule", "show")
            if device in {rule.get("iif"), rule.get("oif")}
        ]


def _of(route: dict[str, Any], device: str) -> bool:
    devices = {hop["dev"] for hop in route.get("nexthops", ())} | {route.get("dev")}
    local = route.get("table") == "local" or route.get("type") in {"local", "multicast", "broadcast", "anycast"}
    return device in devices and not local and not route["dst"].startswith(("fe80::", "ff00::"))


def _plain(route: dict[str, Any], device: str) -> dict[str, Any]:
    hops = [{**hop, "dev": "it", "flags": []} for hop in route.get("nexthops", ())]
    kept = {key: value for key, value in route.items() if key not in {"dev", "flags", "expires", "nexthops"}}
    return kept | {"nexthops": hops, "dev": "it" if route.get("dev") == device else route.get("dev")}


@pytest.fixture
async def world(lab: Lab, bus: PrivateBus, root: Path) -> AsyncIterator[World]:
    host, peer = lab.namespace("host"), lab.namespace("peer")
    host.run("ip", "link", "add", "nic0", "type", "veth", "peer", "name", "card", "netns", peer.name)
    peer.run("sysctl", "-qw", "net.ipv6.conf.card.accept_dad=0")
    for line in (f"address add {PEER4}/24 dev card", f"address add {PEER6}/64 dev card nodad", "link set card up"):
        peer.run("ip", *line.split())
    for line in SETTINGS.strip().splitlines():
        host.run("ip", *line.split())
    # What a move costs in packets is not to depend on who else wants the processors meanwhile.
    with Daemon(host, bus.address, root, prefix=("nice", "-n", "-20")) as daemon:
        async with Client(bus.address) as client:
            wait_until(lambda: peer.succeeds("ping", "-c1", "-W1", HOST4), "the host can be reached")
            wait_until(lambda: peer.succeeds("ping", "-c1", "-W1", HOST6), "by IPv6 too")
            yield World(host, peer, daemon, client)


@contextmanager
def pinging(peer: Namespace, address: str, lost: list[int]) -> Iterator[None]:
    """Ping a hundred times a second meanwhile; how many answers were missed is appended to ``lost``."""
    ping = peer.start("ping", "-i", "0.01", "-W", "2", address, stdout=-1)
    try:
        wait_until(lambda: peer.succeeds("ping", "-c1", "-W1", address))
        yield
        wait_until(lambda: peer.succeeds("ping", "-c1", "-W1", address))
    finally:
        ping.send_signal(signal.SIGINT)
        report, _ = ping.communicate(timeout=20)
    sent, received = (int(part.split()[0]) for part in report.split("\n--- ")[1].splitlines()[1].split(",")[:2])
    # The last one may still be on its way when ping is told to end.
    lost.append(sent - received)


def as_of(world: World, device: str) -> dict[str, Any]:
    return world.possessions(device)


async def test_everything_moves_and_comes_back_and_at_most_one_packet_is_lost(world: World) -> None:
    before = world.possessions("nic0")
    assert {kind: len(things) for kind, things in before.items() if kind != "routes"} == {
        "addresses": 4,
        "rules": 3,
        "neighbours": 2,
        "proxies": 2,
    }
    assert len(before["routes"]) >= 6
    path = await world.define()
    lost: list[int] = []
    with pinging(world.peer, HOST4, lost), pinging(world.peer, HOST6, lost):
        await world.start(path)
    assert max(lost) <= 1, f"packets lost on the way to the bridge: {lost}"
    nothing: dict[str, Any] = {"addresses": [], "routes": [], "rules": [], "neighbours": [], "proxies": []}
    assert (world.possessions("br0"), world.possessions("nic0")) == (before, nothing)
    bridge = world.host.link("br0")
    assert bridge and (bridge["address"], bridge["mtu"]) == (MAC, 1480)
    lost.clear()
    with pinging(world.peer, HOST4, lost), pinging(world.peer, HOST6, lost):
        await world.client.call(path, SWITCH, "Stop")
    assert max(lost) <= 1, f"packets lost on the way back: {lost}"
    assert (world.possessions("nic0"), world.host.link("br0")) == (before, None)
    assert not world.rules("br0")


INSIDE = "198.51.100.7"
POLICY_ROUTING = """
link set inner up
address add 198.51.100.1/24 dev inner
route delete 198.51.100.0/24 dev inner
route add 198.51.100.0/24 dev inner scope link table 81
route add 192.0.2.0/24 dev nic0 scope link table 82
rule add priority 50 iif nic0 to 198.51.100.0/24 lookup 81
rule add priority 51 iif inner lookup 82
rule add priority 60 from all lookup local
rule delete priority 0
rule add priority 70 from all to 198.51.100.0/24 unreachable
"""
"""What leads from the card to a machine behind the host and back is in tables that only rules lead to."""


async def test_packets_go_on_by_rules_about_the_card_and_at_most_one_is_lost(world: World, lab: Lab) -> None:
    inside = lab.namespace("inside")
    world.host.run("ip", "link", "add", "inner", "type", "veth", "peer", "name", "eth0", "netns", inside.name)
    for line in (f"address add {INSIDE}/24 dev eth0", "link set eth0 up", "route add default via 198.51.100.1"):
        inside.run("ip", *line.split())
    world.host.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
    for line in POLICY_ROUTING.strip().splitlines():
        world.host.run("ip", *line.split())
    world.peer.run("ip", "route", "add", "198.51.100.0/24", "via", HOST4)
    wait_until(lambda: world.peer.succeeds("ping", "-c1", "-W1", INSIDE), "by the rules")
    before = world.rules("nic0")
    path = await world.define()
    lost: list[int] = []
    with pinging(world.peer, INSIDE, lost):
        await world.start(path)
    assert (max(lost) <= 1, world.rules("br0"), world.rules("nic0")) == (True, before, []), f"lost: {lost}"
    lost.clear()
    with pinging(world.peer, INSIDE, lost):
        await world.client.call(path, SWITCH, "Stop")
    assert (max(lost) <= 1, world.rules("nic0"), world.rules("br0")) == (True, before, []), f"lost: {lost}"


async def test_a_host_whose_kernel_drops_secondary_addresses_loses_none(world: World) -> None:
    world.host.run(
        "sysctl", "-qw", "net.ipv4.conf.all.promote_secondaries=0", "net.ipv4.conf.nic0.promote_secondaries=0"
    )
    before = world.possessions("nic0")
    path = await world.define()
    await world.start(path)
    assert world.possessions("br0") == before
    assert world.host.sysctl("net.ipv4.conf.nic0.promote_secondaries") == "0"
    await world.client.call(path, SWITCH, "Stop")
    assert world.possessions("nic0") == before


async def test_every_option_of_the_bridge_holds_against_others(world: World) -> None:
    path = await world.define(
        stp=True, priority=4096, forward_delay=4, hello_time=1, max_age=6, ageing_time=20, multicast_snooping=False
    )
    await world.start(path)
    wanted = {"stp_state": 1, "priority": 4096, "forward_delay": 400, "hello_time": 100, "max_age": 600}
    wanted |= {"ageing_time": 2000, "mcast_snooping": 0}

    def shown() -> dict[str, Any]:
        bridge = world.host.link("br0") or {"linkinfo": {"info_data": {}}}
        return {key: bridge["linkinfo"]["info_data"].get(key) for key in wanted}

    assert shown() == wanted
    for option in ("stp_state 0", "priority 9", "forward_delay 900", "hello_time 300", "max_age 900", "ageing_time 9"):
        world.host.run("ip", "link", "set", "br0", "type", "bridge", *option.split())
        await eventually(lambda: shown() == wanted, option)
    world.host.run("ip", "link", "set", "br0", "type", "bridge", "mcast_snooping", "1")
    await eventually(lambda: shown() == wanted, "mcast_snooping")
    await eventually(lambda: world.get(path, "HealedCount"))


async def test_an_uplink_taken_out_is_put_back_and_one_replugged_is_taken_again(world: World) -> None:
    path = await world.define()
    await world.start(path)

    def plugged() -> bool:
        return (world.host.link("nic0") or {}).get("master") == "br0"

    world.host.run("ip", "link", "set", "nic0", "nomaster")
    await eventually(plugged, "put back")
    await eventually(lambda: world.peer.succeeds("ping", "-c1", "-W1", HOST4), "reachable again")
    world.host.run("ip", "link", "delete", "nic0")

    async def away() -> bool:
        return "nic0 is away" in "".join(await world.get(path, "Problems"))

    await eventually(away)
    world.host.run("ip", "link", "add", "nic0", "type", "veth", "peer", "name", "card", "netns", world.peer.name)
    world.peer.run("ip", "link", "set", "card", "up")
    world.peer.run("ip", "address", "add", f"{PEER4}/24", "dev", "card")
    await eventually(plugged, "taken again")
    await eventually(lambda: world.peer.succeeds("ping", "-c1", "-W1", HOST4), "reachable through the new card")

    async def well() -> bool:
        return bool(await world.get(path, "State") == "active")

    await eventually(well, deadline=20)


@pytest.mark.parametrize("pause", [0.0, 0.02, 0.05])
async def test_a_daemon_killed_in_the_middle_leaves_a_host_that_the_next_run_sets_right(
    world: World, pause: float
) -> None:
    before = world.possessions("nic0")
    path = await world.define()
    call = asyncio.create_task(world.start(path))
    await asyncio.sleep(pause)
    world.daemon.kill()
    with suppress(Refused):  # or its answer was under way
        await call
    world.daemon.start()
    where = "br0" if await world.get(path, "Active") else "nic0"
    assert world.possessions(where) == before
    await eventually(lambda: world.peer.succeeds("ping", "-c1", "-W1", HOST4))


EDITS = f"""
address add 203.0.113.9/24 dev br0
address delete 192.0.2.3/24 dev br0
-6 address add 2001:db8:9::9/64 dev br0 nodad
route replace default via {PEER4} dev br0 metric 50 proto dhcp mtu 1400
route add default via 203.0.113.1 dev br0 table 99
route delete 10.30.0.0/16 dev br0
-6 route add 2001:db8:aa::/48 via {PEER6} dev br0
rule delete priority 100 oif br0
rule add priority 90 iif br0 to 10.0.0.0/8 lookup 77
neighbour replace 192.0.2.5 lladdr 52:54:00:00:00:06 dev br0 nud permanent
"""
"""What the administrator changes on the bridge later."""


@pytest.mark.parametrize("runs", [True, False], ids=["seen", "while no daemon runs"])
async def test_a_bridge_that_somebody_deletes_comes_back_with_what_hung_on_it_last(world: World, runs: bool) -> None:
    path = await world.define()
    await world.start(path)
    for line in EDITS.strip().splitlines():
        world.host.run("ip", *line.split())
    # The last change has an event of its own: once it is on record, so is the rest.
    await world.add_and_see_recorded("203.0.113.10/24")
    last = world.possessions("br0")
    # Its source was deleted above: the kernel has kept the route, but would not take it.
    last["routes"] = [route for route in last["routes"] if '"table": "77"' not in route]
    if not runs:
        world.daemon.stop()
    world.host.run("ip", "link", "delete", "br0")
    if not runs:
        world.daemon.start()
    await eventually(lambda: world.possessions("br0") == last, "everything is back")
    bridge = world.host.link("br0")
    assert bridge and (bridge["address"], bridge["mtu"], bridge["operstate"]) == (MAC, 1480, "UP")
    await eventually(lambda: world.peer.succeeds("ping", "-c1", "-W1", HOST4), "reachable again")
    await world.client.call(path, SWITCH, "Stop")
    assert world.possessions("nic0") == last, "and goes back with the rest"


async def test_a_bridge_that_somebody_sets_down_gets_back_what_the_kernel_takes_then(world: World) -> None:
    path = await world.define()
    await world.start(path)
    await world.add_and_see_recorded("203.0.113.10/24")
    before = world.possessions("br0")
    world.host.run("ip", "link", "set", "br0", "down")
    await eventually(lambda: world.possessions("br0") == before)


async def test_a_change_nobody_confirms_is_taken_back_though_the_daemon_was_killed(world: World) -> None:
    before = world.possessions("nic0")
    path = await world.define()
    await world.start(path, confirm=2)
    assert (await world.get(path, "Unconfirmed"), world.possessions("br0")) == (True, before)
    world.daemon.kill()
    world.daemon.start()

    async def back() -> bool:
        return not await world.get(path, "Active")

    await eventually(back, deadline=20)
    assert (world.possessions("nic0"), world.host.link("br0")) == (before, None)
    with pytest.raises(Refused) as refused:
        await world.client.call(path, SWITCH, "Confirm")
    assert refused.value.name == "org.vnetd1.Error.NotConfirmed"


async def test_what_is_confirmed_survives_a_restart(world: World) -> None:
    before = world.possessions("nic0")
    path = await world.define()
    await world.start(path, confirm=600)
    await world.client.call(path, SWITCH, "Confirm")
    world.daemon.stop()
    index = (world.host.link("br0") or {})["ifindex"]
    world.daemon.start()
    assert (await world.get(path, "State"), await world.get(path, "Unconfirmed")) == ("active", False)
    assert ((world.host.link("br0") or {})["ifindex"], world.possessions("br0")) == (index, before)


async def test_a_start_that_fails_half_way_puts_everything_back(world: World) -> None:
    """Its second uplink belongs to another bridge by the time it is plugged in, and cannot be: it is one itself."""
    world.host.run("ip", "link", "add", "loop0", "type", "bridge")
    world.host.run("ip", "link", "set", "loop0", "up")
    before = world.possessions("nic0")
    path = await world.define(uplinks=[{"device": "nic0", "migrate": True}, "loop0"])
    with pytest.raises(Refused, match="loop0"):
        await world.start(path)
    assert (world.possessions("nic0"), world.host.link("br0")) == (before, None)
    assert not await world.get(path, "Active")


async def test_a_route_that_cannot_be_made_again_stops_the_move_and_nothing_is_lost(world: World) -> None:
    world.host.run("ip", "nexthop", "add", "id", "7", "via", PEER4, "dev", "nic0")
    world.host.run("ip", "route", "add", "10.40.0.0/16", "nhid", "7")
    before = world.possessions("nic0")
    path = await world.define()
    with pytest.raises(Refused, match="next hop object") as refused:
        await world.start(path)
    assert refused.value.name == "org.vnetd1.Error.Unsupported"
    assert (world.possessions("nic0"), world.host.link("br0")) == (before, None)
