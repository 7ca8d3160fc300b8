"""Switches on a host in memory: whole or not at all, kept as they should be, taken back if nobody confirms them."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import pytest
from support.memory_host import (
    ROOT,
    Call,
    MemoryHost,
    Refusal,
    Running,
    crash,
    difference,
    host_with_uplink,
    lab,
    nth,
    running,
    verb,
)
from support.memory_resolver import DEFAULTS
from support.waiting import eventually

from vnetd.model.errors import Busy, Exists, HostError, InUse, Invalid, NotConfirmed, NotFound, Unsupported, VnetError
from vnetd.plan.kernel import (
    AddPortVlan,
    DeleteLink,
    GiveAddress,
    GiveNeighbour,
    GiveProxy,
    GiveRoute,
    SetBridge,
    SetLink,
    TakeAddress,
    TakeRoute,
)
from vnetd.plan.link_dns import LinkDns, LinkDomain, NameServer
from vnetd.plan.links import BridgeOptions, PortVlan
from vnetd.plan.possessions import HeldAddress, HeldNeighbour, HeldRoute, NextHop
from vnetd.service.views import Changed, Healed, SwitchView

NIC_MAC = "52:54:00:aa:00:01"
SECOND = HeldAddress(ip_interface("203.0.113.3/24"), label="eth0:web", valid=3600, preferred=1800)
POLICY = HeldRoute(ip_network("10.8.0.0/16"), (NextHop("eth0", ip_address("203.0.113.1")),), table=7, metric=20)
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


async def test_a_switch_takes_its_uplinks_place_on_the_network() -> None:
    host = rich_host()
    async with deaf(host) as daemon:
        assert (await start(daemon)).state == "active"
    bridge, nic = host.link("br0"), host.link("eth0")
    assert bridge and nic
    assert (addresses(host, "br0"), addresses(host, "eth0")) == (OWN, set())
    assert (bridge.mac, bridge.mtu, bridge.up, nic.master) == (NIC_MAC, 1460, True, bridge.index)
    entry = host.links.find("br0")
    assert entry and entry.details[SECOND.address] == SECOND
    assert POLICY.through("eth0", "br0") in host.links.further_routes
    assert (list(entry.permanent.values()), entry.proxies) == ([BY_HAND], [ip_address("203.0.113.77")])
    assert {(str(route.destination), str(route.gateway)) for route in entry.routes} == {("0.0.0.0/0", "203.0.113.1")}


async def test_when_it_stops_everything_is_as_it_was() -> None:
    host = rich_host()
    before = network_state(host)
    async with deaf(host) as daemon:
        switch = await start(daemon)
        await daemon.services.switches.stop(ROOT, switch.uuid)
        assert view(daemon).state == "inactive"
    assert not difference(before, network_state(host))
    assert not host.files.files.get("run/switches")


async def test_what_came_to_hang_on_the_bridge_meanwhile_goes_to_the_uplink_too() -> None:
    host = rich_host()
    async with deaf(host) as daemon:
        switch = await start(daemon)
        host.perform(GiveAddress("br0", HeldAddress(ip_interface("192.0.2.9/24"))), TakeAddress("br0", SECOND))
        await daemon.services.switches.stop(ROOT, switch.uuid)
    assert addresses(host, "eth0") == (OWN | {"192.0.2.9/24"}) - {"203.0.113.3/24"}


async def test_an_mtu_that_is_asked_for_holds_for_bridge_and_uplink_and_the_uplink_gets_its_own_back() -> None:
    host = rich_host()
    async with deaf(host) as daemon:
        switch = await start(daemon, office(mtu=1400, uplinks=["eth0"]))
        assert [link and link.mtu for link in (host.link("br0"), host.link("eth0"))] == [1400, 1400]
        assert addresses(host, "eth0") == OWN, "nothing moves unless asked"
        await daemon.services.switches.stop(ROOT, switch.uuid)
    nic = host.link("eth0")
    assert nic and (nic.mtu, nic.master) == (1460, 0)


async def test_a_device_that_was_down_is_down_again_afterwards() -> None:
    host = rich_host()
    async with deaf(host) as daemon:
        switch = await start(daemon, office(uplinks=["eth1"]))
        assert (link := host.link("eth1")) and link.up
        await daemon.services.switches.stop(ROOT, switch.uuid)
    assert (link := host.link("eth1")) and not link.up


async def test_every_option_is_as_asked_and_healed_when_somebody_changes_it() -> None:
    host = rich_host()
    changed = {"priority": 1, "hello_time": 900, "max_age": 3000, "ageing_time": 1, "multicast_snooping": True}
    async with running(host) as daemon:
        await start(daemon, office(**OPTIONS))
        before = host.link("br0")
        assert before and before.bridge
        assert (before.bridge.priority, before.bridge.forward_delay, before.bridge.hello_time) == (4096, 400, 100)
        assert (before.bridge.max_age, before.bridge.ageing_time, before.bridge.multicast_snooping) == (
            600,
            2000,
            False,
        )
        assert before.bridge.stp
        for name, value in changed.items():
            host.perform(SetBridge("br0", BridgeOptions(**{name: value})))
            await eventually(lambda: host.link("br0") == before, name)
        for damage in (SetLink("br0", stp=False), SetLink("br0", mtu=1300), SetLink("br0", up=False)):
            host.perform(damage)
            await eventually(lambda: host.link("br0") == before, str(damage))
        await eventually(lambda: view(daemon).healed_count >= len(changed))
        assert daemon.told(Healed)[0].kind == "switch"


async def test_an_uplink_taken_out_is_put_back_and_one_replugged_is_taken_again() -> None:
    host = rich_host()
    async with running(host) as daemon:
        await start(daemon)
        bridge = host.link("br0")
        assert bridge

        def plugged() -> bool:
            return bool((nic := host.link("eth0")) and nic.master == bridge.index and nic.up)

        host.perform(SetLink("eth0", master=""))
        await eventually(plugged, "put back")
        nic = host.link("eth0")
        assert nic
        host.links.remove(nic.index)
        await eventually(lambda: "eth0 is away" in "".join(view(daemon).problems))
        assert (view(daemon).state, addresses(host, "br0")) == ("degraded", OWN)
        host.links.create("eth0", "")
        await eventually(plugged, "taken again")
        await eventually(lambda: view(daemon).state == "active")


async def test_a_bridge_that_somebody_deletes_comes_back_with_all_that_hung_on_it() -> None:
    host = rich_host()
    async with running(host) as daemon:
        await start(daemon)
        host.perform(DeleteLink("br0", ""))
        await eventually(lambda: addresses(host, "br0") == OWN)
        await eventually(lambda: POLICY.through("eth0", "br0") in host.links.further_routes)
        await eventually(lambda: host.name_servers.shown("br0") == DNS)


LATER = HeldAddress(ip_interface("198.51.100.9/24"))
LATER_ROUTE = HeldRoute(ip_network("10.9.0.0/16"), (NextHop("br0", ip_address("203.0.113.1")),), table=9)
EDITED = (OWN | {"198.51.100.9/24"}) - {"203.0.113.3/24"}


async def edit(host: MemoryHost) -> None:
    """What the host's administrator changes on the bridge, now that it has what the uplink had, and vnetd has seen."""
    host.perform(TakeAddress("br0", SECOND), GiveRoute(LATER_ROUTE), TakeRoute(POLICY.through("eth0", "br0")))
    host.perform(GiveNeighbour("br0", replace(BY_HAND, mac="52:54:00:00:00:06")), GiveAddress("br0", LATER))
    host.name_servers.links[index_of(host, "br0")] = replace(DNS, domains=())
    await eventually(lambda: str(LATER.address) in "".join(host.files.files["run/switches"].values()), "on record")


def edited(host: MemoryHost) -> bool:
    entry = host.links.find("br0")
    routes = {route.table for route in host.links.further_routes}
    return (
        entry is not None
        and (addresses(host, "br0"), 9 in routes, 7 in routes) == (EDITED, True, False)
        and entry.permanent[BY_HAND.address].mac == "52:54:00:00:00:06"
        and host.name_servers.shown("br0") == replace(DNS, domains=())
    )


async def test_a_deleted_bridge_comes_back_with_what_hung_on_it_last() -> None:
    host = rich_host()
    async with running(host) as daemon:
        await start(daemon)
        await edit(host)
        assert edited(host)
        host.perform(DeleteLink("br0", ""))
        await eventually(lambda: edited(host))


async def test_a_bridge_that_is_deleted_while_no_daemon_runs_comes_back_as_it_was_last() -> None:
    host = rich_host()
    async with running(host) as daemon:
        await start(daemon)
        await edit(host)
    host.perform(DeleteLink("br0", ""))
    async with deaf(host) as daemon:
        assert (view(daemon).state, edited(host)) == ("active", True)


async def test_a_bridge_that_is_deleted_while_its_uplink_is_away_comes_back_with_what_hung_on_it() -> None:
    host = rich_host()
    async with running(host) as daemon:
        await start(daemon)
        await edit(host)
        host.links.remove(index_of(host, "eth0"))
        await eventually(lambda: view(daemon).state == "degraded")
        host.perform(DeleteLink("br0", ""))
        await eventually(lambda: edited(host))
        host.links.create("eth0", "")
        await eventually(lambda: view(daemon).state == "active")
        assert edited(host)


async def test_what_the_kernel_takes_from_a_bridge_that_is_set_down_comes_back() -> None:
    host = rich_host()
    async with running(host) as daemon:
        await start(daemon)
        host.perform(SetLink("br0", up=False))
        assert addresses(host, "br0") < OWN
        await eventually(lambda: addresses(host, "br0") == OWN)
        entry = host.links.find("br0")
        assert entry and {str(route.gateway) for route in entry.routes} == {"203.0.113.1"}


async def test_what_hangs_on_the_bridge_is_written_down_when_it_changes_and_else_never(clock: "Clock") -> None:
    host = rich_host()
    async with deaf(host) as daemon:
        await start(daemon)
        for seconds, lifetime, writes in ((600, 3000, 0), (0, 2990, 0), (0, 3600, 1), (900, 2700, 0)):
            clock.now += seconds
            host.perform(GiveAddress("br0", replace(SECOND, valid=lifetime, preferred=lifetime - 1800)))
            host.calls.clear()
            await daemon.services.full_pass()
            assert len([call for call in host.calls if call.verb == "store.save"]) == writes, (seconds, lifetime)


async def test_who_takes_an_uplink_out_again_and_again_is_told_of_and_not_fought() -> None:
    host = rich_host()
    async with running(host) as daemon:
        await start(daemon)
        for _ in range(12):
            host.perform(SetLink("eth0", master=""))
            await eventually(lambda: bool((nic := host.link("eth0")) and nic.master) or view(daemon).problems)
        await eventually(lambda: view(daemon).state == "degraded")
        assert "uplink eth0 changed again and again" in view(daemon).problems[0]


async def calls_of(act: Callable[[Running], Awaitable[object]]) -> list[Call]:
    host = rich_host()
    async with deaf(host) as daemon:
        await define(daemon)
        host.calls.clear()
        await act(daemon)
        return list(host.calls)


async def starting(daemon: Running) -> None:
    await daemon.services.switches.start(ROOT, view(daemon).uuid, {})


async def test_whichever_call_of_a_start_fails_every_address_and_route_is_where_it_was() -> None:
    calls = await calls_of(starting)
    assert {"kernel.GiveAddress", "kernel.TakeAddress", "kernel.GiveRoute", "kernel.TakeRoute"} <= {
        call.verb for call in calls
    }
    for number, call in enumerate(calls):
        host = rich_host()
        async with deaf(host) as daemon:
            await define(daemon)
            before = host.state()
            host.before = Refusal(nth(number))
            try:
                await starting(daemon)
            except VnetError:
                assert not difference(before, host.state()), f"when {call} fails"
                assert not view(daemon).active
                await starting(daemon)
            assert (view(daemon).active, addresses(host, "br0")) == (True, OWN), f"after {call} failed"
            assert all("name servers" in one for one in view(daemon).problems), "at worst these have not followed"


async def test_wherever_a_start_is_killed_the_next_run_completes_or_undoes_it() -> None:
    for number, call in enumerate(await calls_of(starting)):
        host = rich_host()
        async with deaf(host) as daemon:
            await define(daemon)
            host.before = crash(number)
            with suppress(VnetError):  # looks in the background count too, so the last numbers may never come
                await starting(daemon)
        async with deaf(host) as daemon:
            state = view(daemon).state
            assert state in {"active", "inactive"}, f"killed at {call}"
            where = "br0" if state == "active" else "eth0"
            assert addresses(host, where) == OWN, f"killed at {call}"
            if state == "inactive":
                await starting(daemon)
            await daemon.services.switches.stop(ROOT, view(daemon).uuid)
        assert (addresses(host, "eth0"), host.devices()) == (OWN, {"eth0", "eth1"}), f"killed at {call}"
        assert POLICY in host.links.further_routes, f"killed at {call}"


async def test_wherever_a_stop_is_killed_the_next_run_ends_it() -> None:
    async def stopping(daemon: Running) -> None:
        await daemon.services.switches.stop(ROOT, view(daemon).uuid)

    host = rich_host()
    async with deaf(host) as daemon:
        await start(daemon)
        host.calls.clear()
        await stopping(daemon)
        calls = list(host.calls)
    for number, call in enumerate(calls):
        host = rich_host()
        async with deaf(host) as daemon:
            await start(daemon)
            host.before = crash(number)
            with suppress(VnetError):
                await stopping(daemon)
        async with deaf(host) as daemon:
            if view(daemon).active:  # nothing had been put on record yet
                await stopping(daemon)
        assert (addresses(host, "eth0"), host.devices()) == (OWN, {"eth0", "eth1"}), f"killed at {call}"
        assert POLICY in host.links.further_routes, f"killed at {call}"


async def test_name_servers_move_with_the_addresses_and_back() -> None:
    host = rich_host()
    async with deaf(host) as daemon:
        switch = await start(daemon)
        assert (host.name_servers.shown("br0"), host.name_servers.shown("eth0")) == (DNS, DEFAULTS)
        meanwhile = replace(DNS, servers=DNS.servers[:1])
        host.name_servers.links[index_of(host, "br0")] = meanwhile
        await daemon.services.switches.stop(ROOT, switch.uuid)
        assert host.name_servers.shown("eth0") == meanwhile


async def test_without_a_resolver_there_is_nothing_to_move_and_no_problem() -> None:
    host = rich_host()
    host.name_servers.runs = False
    async with deaf(host) as daemon:
        assert ((await start(daemon)).state, addresses(host, "br0")) == ("active", OWN)


@pytest.mark.parametrize("refused", ["resolver.settings", "resolver.give", "resolver.take"])
async def test_name_servers_that_cannot_be_moved_are_a_problem_until_they_can(refused: str) -> None:
    host = rich_host()
    async with deaf(host) as daemon:
        await define(daemon)
        host.before = Refusal(verb(refused), times=100)
        await starting(daemon)
        (problem,) = view(daemon).problems
        assert ("of eth0 to br0: Input/output error" in problem, view(daemon).state) == (True, "degraded")
        assert ("203.0.113.53" in problem) is (refused != "resolver.settings"), "it says which as soon as it knows"
        assert (addresses(host, "br0"), host.name_servers.shown("eth0")) == (OWN, DNS)
        host.before = Refusal(lambda _: False)
        await daemon.services.full_pass()
        assert (view(daemon).state, view(daemon).problems) == ("active", ())
        assert [one.view.problems for one in daemon.told(Changed)][-1] == (), "and that is told"
        assert (host.name_servers.shown("br0"), host.name_servers.shown("eth0")) == (DNS, DEFAULTS)


async def test_name_servers_that_a_manager_of_the_uplink_tells_the_resolver_stay_known_of_it() -> None:
    host = rich_host()
    host.name_servers.managed.add("eth0")
    async with deaf(host) as daemon:
        switch = await start(daemon)
        assert (host.name_servers.shown("br0"), host.name_servers.shown("eth0")) == (DNS, DNS)
        await daemon.services.switches.stop(ROOT, switch.uuid)
        assert (view(daemon).problems, host.name_servers.shown("eth0")) == ((), DNS)


async def test_an_address_that_comes_during_the_move_moves_too() -> None:
    host = rich_host()
    late = HeldAddress(ip_interface("203.0.113.99/24"))

    async def slip_in(call: Call) -> None:
        if call.verb == "kernel.GiveAddress" and late.address not in host.links.find("eth0").addresses:  # type: ignore[union-attr]
            host.perform(GiveAddress("eth0", late))
            host.before = nothing

    async def nothing(_: Call) -> None:
        return None

    async with deaf(host) as daemon:
        await define(daemon)
        host.before = slip_in
        await starting(daemon)
    assert (addresses(host, "br0"), addresses(host, "eth0")) == (OWN | {"203.0.113.99/24"}, set())


async def test_a_stop_whose_move_fails_keeps_the_bridge_and_all_on_it_and_can_be_tried_again() -> None:
    host = rich_host()
    async with deaf(host) as daemon:
        switch = await start(daemon)
        host.before = Refusal(verb("kernel.GiveRoute"))
        with pytest.raises(HostError, match="GiveRoute"):
            await daemon.services.switches.stop(ROOT, switch.uuid)
        assert (addresses(host, "br0"), view(daemon).state) == (OWN, "failed")
        await daemon.services.switches.stop(ROOT, switch.uuid)
        assert (addresses(host, "eth0"), view(daemon).state) == (OWN, "inactive")


async def test_a_restart_changes_nothing() -> None:
    host = rich_host()
    async with deaf(host) as daemon:
        await start(daemon)
    before = host.state()
    host.links.done.clear()
    async with deaf(host) as daemon:
        assert view(daemon).state == "active"
    assert (difference(before, host.state()), host.links.done) == ({}, [])


async def test_autostart_starts_it_once_a_boot() -> None:
    host = rich_host()
    async with deaf(host) as daemon:
        switch = await define(daemon)
        await daemon.services.switches.set_autostart(ROOT, switch.uuid, True)
    host.boot()
    async with deaf(host) as daemon:
        assert view(daemon).state == "active"


async def test_whenever_a_start_is_cancelled_everything_is_as_it_was() -> None:
    for number, call in enumerate(await calls_of(starting)):
        host = rich_host()
        async with deaf(host) as daemon:
            await define(daemon)
            before = network_state(host)
            start = asyncio.create_task(starting(daemon))
            chosen = nth(number)

            async def cancel(call: Call, chosen: Any = chosen, start: Any = start) -> None:
                if chosen(call):
                    start.cancel()
                    await asyncio.sleep(0)

            host.before = cancel
            with suppress(asyncio.CancelledError):
                await start
            if view(daemon).active:  # it had ended before its turn came
                continue
            assert not difference(before, network_state(host)), f"cancelled at {call}"
            host.before = Refusal(lambda _: False)
            await starting(daemon)


async def test_after_a_change_a_bridge_that_is_deleted_still_comes_back_with_all_that_hung_on_it() -> None:
    host = rich_host()
    async with running(host) as daemon:
        await start(daemon)
        await redefine(daemon, priority=7)
        host.perform(DeleteLink("br0", ""))
        await eventually(lambda: addresses(host, "br0") == OWN)


async def test_lifetimes_have_gone_on_when_things_come_back(clock: "Clock") -> None:
    host = rich_host()
    async with running(host) as daemon:
        await start(daemon)
        clock.now += 600
        host.perform(DeleteLink("br0", ""))
        await eventually(lambda: addresses(host, "br0") == OWN)
    entry = host.links.find("br0")
    assert entry and (entry.details[SECOND.address].valid, entry.details[SECOND.address].preferred) == (3000, 1200)


async def test_networks_go_on_being_forwarded_through_the_bridge() -> None:
    host = rich_host()
    path = ("net", "ipv4", "conf", "{}", "forwarding")

    def forwards(name: str) -> str | None:
        return host.links.values.get((*path[:3], name, path[4]))

    async with deaf(host) as daemon:
        network = await daemon.services.networks.define(ROOT, lab(), {})
        await daemon.services.networks.start(ROOT, network.uuid)
        assert forwards("eth0") == "1"
        switch = await start(daemon)
        await eventually(lambda: (forwards("br0"), forwards("eth0")) == ("1", "0"))
        await daemon.services.switches.stop(ROOT, switch.uuid)
        await eventually(lambda: forwards("eth0") == "1")


async def test_at_boot_an_uplink_may_come_later() -> None:
    host = rich_host()
    async with deaf(host) as daemon:
        switch = await define(daemon, office(uplinks=["eth1", {"device": "eth0", "migrate": True}]))
        await daemon.services.switches.set_autostart(ROOT, switch.uuid, True)
    host.boot()  # eth1 is a card that is slow to come
    async with running(host) as daemon:
        assert (view(daemon).state, "eth1 is away" in view(daemon).problems[0]) == ("degraded", True)
        host.links.create("eth1", "", mtu=1400)
        bridge = host.link("br0")
        assert bridge
        await eventually(lambda: (card := host.link("eth1")) and card.master == bridge.index and card.up)
        await eventually(lambda: view(daemon).state == "active")
        await daemon.services.switches.stop(ROOT, switch.uuid)
    assert (card := host.link("eth1"))
    assert (card.master, card.up) == (0, False)


async def test_the_bridge_configures_itself_by_ipv6_as_its_uplink_did() -> None:
    host = rich_host()
    for key, value in (("accept_ra", "2"), ("autoconf", "0")):
        host.links.values["net", "ipv6", "conf", "eth0", key] = value
    async with running(host) as daemon:
        await start(daemon)
        conf = {key: host.links.values["net", "ipv6", "conf", "br0", key] for key in ("accept_ra", "autoconf")}
        assert conf == {"accept_ra": "2", "autoconf": "0"}
    async with deaf(host) as daemon:
        host.links.values["net", "ipv6", "conf", "br0", "accept_ra"] = "1"
        await daemon.services.full_pass()
        assert host.links.values["net", "ipv6", "conf", "br0", "accept_ra"] == "2", "known over a restart"


class Clock:
    """Seconds since the boot, as the test says."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("vnetd.service.switch_confirmation.GLANCE", 0.01)
    monkeypatch.setattr(
        "vnetd.service.clock.time", type("time", (), {"clock_gettime": lambda _: made(), "CLOCK_BOOTTIME": 7})
    )
    return made


async def test_what_nobody_confirms_is_taken_back(clock: Clock) -> None:
    host = rich_host()
    before = network_state(host)
    async with deaf(host) as daemon:
        switch = await start(daemon, confirm=30)
        assert (switch.state, switch.unconfirmed) == ("active", True)
        clock.now += 29.9
        assert view(daemon).active
        clock.now += 0.2
        await eventually(lambda: view(daemon).state == "inactive")
        assert not difference(before, network_state(host))
        with pytest.raises(NotConfirmed, match="not confirmed in time"):
            await daemon.services.switches.confirm(ROOT, switch.uuid)


async def test_what_was_lost_meanwhile_comes_back_as_well(clock: Clock) -> None:
    host = rich_host()
    async with deaf(host) as daemon:
        await start(daemon, confirm=30)
        host.perform(TakeAddress("br0", SECOND), TakeRoute(POLICY.through("eth0", "br0")))
        clock.now += 31
        await eventually(lambda: view(daemon).state == "inactive")
    assert (addresses(host, "eth0"), POLICY in host.links.further_routes) == (OWN, True)


async def test_what_is_confirmed_stays(clock: Clock) -> None:
    host = rich_host()
    async with deaf(host) as daemon:
        switch = await start(daemon, confirm=30)
        await daemon.services.switches.set_autostart(ROOT, switch.uuid, True)
        await daemon.services.switches.confirm(ROOT, switch.uuid)
        clock.now += 1000
        with pytest.raises(Busy, match="nothing of switch office waits"):
            await daemon.services.switches.confirm(ROOT, switch.uuid)
        assert (view(daemon).state, view(daemon).unconfirmed) == ("active", False)
    host.boot()
    async with deaf(host) as daemon:
        assert view(daemon).active


async def test_the_time_runs_on_while_the_daemon_is_away(clock: Clock) -> None:
    for away, active in ((10, True), (100, False)):
        host = rich_host()
        async with deaf(host) as daemon:
            await start(daemon, confirm=30)
        clock.now += away
        async with deaf(host) as daemon:
            assert view(daemon).active is active
            assert addresses(host, "br0" if active else "eth0") == OWN
            if active:
                clock.now += 30
                await eventually(lambda: not view(daemon).active)
                assert addresses(host, "eth0") == OWN


async def test_a_boot_does_not_start_what_was_never_confirmed(clock: Clock) -> None:
    host = rich_host()
    async with deaf(host) as daemon:
        switch = await define(daemon)
        await daemon.services.switches.set_autostart(ROOT, switch.uuid, True)
        await daemon.services.switches.start(ROOT, switch.uuid, {"confirm": 600})
    host.boot()
    async with deaf(host) as daemon:
        assert (view(daemon).state, view(daemon).autostart) == ("inactive", True)
        assert "br0" not in host.devices()
        await daemon.services.switches.start(ROOT, switch.uuid, {})
    host.boot()
    async with deaf(host) as daemon:
        assert view(daemon).active, "started without a confirmation it is as good as confirmed"


async def redefine(daemon: Running, **fields: Any) -> None:
    document = json.loads(office(uuid=str(view(daemon).uuid), **{k: v for k, v in fields.items() if k != "confirm"}))
    options = {"confirm": fields["confirm"]} if "confirm" in fields else {}
    await daemon.services.switches.define(ROOT, json.dumps(document), options)


async def test_a_change_of_what_runs_is_taken_back_unless_confirmed(clock: Clock) -> None:
    host = rich_host()
    async with deaf(host) as daemon:
        await start(daemon)
        before = host.state()
        await redefine(daemon, priority=7, uplinks=["eth1"], confirm=30)
        assert (addresses(host, "eth0"), addresses(host, "br0")) == (OWN, set())
        with pytest.raises(Busy, match="waits to be confirmed"):
            await redefine(daemon, priority=8)
        clock.now += 31
        await eventually(lambda: not view(daemon).unconfirmed)
        assert addresses(host, "br0") == OWN
        assert json.loads(daemon.services.switches.describe(view(daemon).uuid, "json", {"inactive": True})) == {
            **json.loads(office()),
            "uuid": str(view(daemon).uuid),
        }
        changed = difference(before, host.state())
        assert set(changed) <= {"link eth1", f"document run/switches/{view(daemon).uuid}"}
        with pytest.raises(NotConfirmed):
            await daemon.services.switches.confirm(ROOT, view(daemon).uuid)


async def test_a_confirmed_change_is_kept_on_disk_and_an_unconfirmed_one_is_not(clock: Clock) -> None:
    host = rich_host()
    async with deaf(host) as daemon:
        await start(daemon)
        await redefine(daemon, priority=7, confirm=30)
        uuid = view(daemon).uuid
        assert "priority" not in daemon.services.switches.describe(uuid, "json", {"inactive": True})
        await daemon.services.switches.confirm(ROOT, uuid)
        assert '"priority": 7' in daemon.services.switches.describe(uuid, "json", {"inactive": True})


async def test_a_change_that_fails_leaves_what_ran(clock: Clock) -> None:
    host = rich_host()
    async with deaf(host) as daemon:
        await start(daemon)
        bridge = host.link("br0")
        host.before = Refusal(verb("kernel.SetBridge"))
        with pytest.raises(HostError):
            await redefine(daemon, priority=7)
        assert (host.link("br0"), addresses(host, "br0"), view(daemon).state) == (bridge, OWN, "active")
        assert "priority" not in daemon.services.switches.describe(view(daemon).uuid, "json", {"inactive": True})


VLANS = {"vlan_filtering": True, "uplinks": ["eth0"], "host_access": {"tags": [{"id": 9}]}}


async def test_a_switch_that_filters_has_its_vlans_on_uplink_and_bridge_and_heals_them() -> None:
    host = rich_host()
    async with running(host) as daemon:
        await start(daemon, office(**VLANS))
        uplink, bridge = host.links.find("eth0"), host.links.find("br0")
        assert uplink and bridge
        on_uplink = {1: PortVlan(1, pvid=True, untagged=True), 9: PortVlan(9)}
        assert (uplink.vlans, bridge.vlans) == (on_uplink, {9: PortVlan(9, pvid=True, untagged=True)})
        host.perform(AddPortVlan("eth0", PortVlan(666)))
        await eventually(lambda: uplink.vlans == on_uplink)
        await eventually(lambda: view(daemon).healed_count == 1)


async def test_a_kernel_without_vlan_filtering_is_named_and_nothing_is_left() -> None:
    host = rich_host()
    host.links.knows_vlans = False
    host.capabilities.lacking |= {"bridge-vlan-filtering": "not compiled in", "vlan": "no module"}
    before = network_state(host)
    filtering = "switch office needs VLAN filtering on bridges, which this host has not: not compiled in; leave vlan_"
    tagged = "switch tagged: uplink eth1.30 needs 802.1Q devices, which this host has not: no module"
    async with deaf(host) as daemon:
        calls = len(host.calls)
        with pytest.raises(Unsupported, match=f"^{filtering}"):
            await start(daemon, office(**VLANS))
        with pytest.raises(Unsupported, match=f"^{tagged}$"):
            document = office(name="tagged", bridge="br1", uplinks=[{"device": "eth1", "vlan": 30}])
            await daemon.services.switches.create(ROOT, document, {"confirm": 60})
        assert not [call for call in host.calls[calls:] if call.verb.startswith("kernel.") and call.changes]
        (left,) = daemon.services.switches.list()
        assert (left.name, left.active, left.unconfirmed) == ("office", False, False)
    assert not difference(before, network_state(host))


async def test_a_switch_that_runs_is_not_changed_to_what_the_kernel_lacks() -> None:
    host = rich_host()
    async with running(host) as daemon:
        switch = await start(daemon, office())
        before = network_state(host)
        host.capabilities.lacking["bridge-vlan-filtering"] = "not compiled in"
        with pytest.raises(Unsupported, match="not compiled in"):
            await daemon.services.switches.define(ROOT, office(uuid=str(switch.uuid), **VLANS), {})
        assert not difference(before, network_state(host))


async def test_a_vlans_part_of_a_device_is_made_plugged_in_healed_and_taken_away() -> None:
    host = rich_host()
    async with running(host) as daemon:
        switch = await start(daemon, office(uplinks=[{"device": "eth1", "vlan": 30}]))
        made, bridge = host.link("eth1.30"), host.link("br0")
        assert made and bridge and (made.master, made.up) == (bridge.index, True)
        assert (parent := host.link("eth1")) and parent.up
        host.perform(DeleteLink("eth1.30", ""))
        await eventually(lambda: (again := host.link("eth1.30")) and again.master == bridge.index and again.up)
        await daemon.services.switches.stop(ROOT, switch.uuid)
        assert host.devices() == {"eth0", "eth1"}


BAD: Mapping[str, tuple[dict[str, Any], type[VnetError], str]] = {
    "no such uplink": ({"uplinks": ["eth7"]}, NotFound, "eth7"),
    "an uplink that belongs to another bridge": ({"uplinks": ["eth1"]}, InUse, "eth1"),
    "a bridge somebody else made": ({"bridge": "theirs"}, InUse, "theirs"),
}


@pytest.mark.parametrize("case", BAD)
async def test_what_cannot_be_started_is_refused_by_name_and_nothing_is_left(case: str) -> None:
    fields, error, name = BAD[case]
    host = rich_host()
    host.links.create("theirs", "bridge")
    host.perform(SetLink("eth1", master="theirs"))
    before = network_state(host)
    async with deaf(host) as daemon:
        with pytest.raises(error, match=name):
            await start(daemon, office(**fields))
        assert not view(daemon).active
    assert not difference(before, network_state(host))


async def test_what_cannot_move_is_refused_before_anything_is_touched() -> None:
    host = rich_host()
    before = network_state(host)
    async with deaf(host) as daemon:
        await define(daemon)
        real = host.links.possessions

        async def unportable(name: str) -> Any:
            found = await real(name)
            return replace(found, unportable=("route 10.0.0.0/8 with a next hop object",)) if found else None

        host.links.possessions = unportable  # type: ignore[method-assign]
        with pytest.raises(Unsupported, match="next hop object of eth0"):
            await starting(daemon)
    assert not difference(before, network_state(host))


async def test_names_bridges_and_uuids_are_not_taken_twice() -> None:
    host = rich_host()
    async with deaf(host) as daemon:
        switch = await define(daemon)
        with pytest.raises(Exists, match="give that uuid"):
            await define(daemon)
        with pytest.raises(InUse, match="switch office"):
            await define(daemon, json.dumps({"name": "other", "bridge": "br0"}))
        with pytest.raises(InUse, match="switch office"):
            await daemon.services.networks.define(ROOT, json.dumps({"name": "n", "bridge": {"name": "br0"}}), {})
        await daemon.services.networks.define(ROOT, json.dumps({"name": "n", "bridge": {"name": "virbr5"}}), {})
        with pytest.raises(InUse, match="network n"):
            await define(daemon, json.dumps({"name": "other", "bridge": "virbr5"}))
        await daemon.services.switches.undefine(ROOT, switch.uuid)
        with pytest.raises(NotFound):
            view(daemon)


async def test_a_transient_switch_is_gone_when_it_stops_or_cannot_start(clock: Clock) -> None:
    host = rich_host()
    async with deaf(host) as daemon:
        switch = await daemon.services.switches.create(ROOT, office(), {"confirm": 5})
        assert (switch.persistent, switch.unconfirmed) == (False, True)
        clock.now += 6
        await eventually(lambda: not daemon.services.switches.list())
        with pytest.raises(NotFound):
            await daemon.services.switches.create(ROOT, office(uplinks=["eth7"]), {})
        assert (daemon.services.switches.list(), addresses(host, "eth0")) == ((), OWN)


@pytest.mark.parametrize(
    "options", [{"confirm": -1}, {"confirm": True}, {"confirm": "5"}, {"confirm": 10**6}, {"x": 1}]
)
async def test_options_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    host = rich_host()
    async with deaf(host) as daemon:
        switch = await define(daemon)
        with pytest.raises(Invalid):
            await daemon.services.switches.start(ROOT, switch.uuid, options)
        assert not view(daemon).active
