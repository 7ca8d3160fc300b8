"""What the loop repairs, whom it counts that for, and when it holds back."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_interface
from uuid import UUID

import pytest
from support.hasty_loop import hastily
from support.memory_daemon import ROOT, defined, lab, running, view
from support.memory_healing import heals, quiet, settled
from support.memory_host import MemoryHost, difference, host_with_uplink
from support.waiting import eventually

from vnetd.host.events import Overflow
from vnetd.plan.kernel import (
    AddAddress,
    DeleteAddress,
    DeleteLink,
    DeleteRoute,
    SetLink,
    WriteSysctl,
)
from vnetd.plan.links import KernelRoute
from vnetd.service.notices import SLICE
from vnetd.service.views import Healed, LeaseChange

V4, V6 = ip_interface("192.168.77.1/24"), ip_interface("fd77::1/64")
FORWARDING = ("net", "ipv4", "conf", "virbr0", "forwarding")


def delete_element(host: MemoryHost, device: str) -> None:
    """Another process takes an element away that makes a network's rules apply."""
    held = host.rules.tables["inet"].elements.values()
    host.rules.delete_element(next(e for members in held for e in members.values() if device in e.key))


def route_of(host: MemoryHost) -> KernelRoute:
    """The static route of the network."""
    entry = host.links.find("virbr0")
    assert entry is not None
    (route,) = entry.routes
    return route


CHANGES: dict[str, Callable[[MemoryHost], None]] = {
    "address 192.168.77.1/24": lambda host: host.perform(DeleteAddress("virbr0", V4)),
    "address fd77::1/64": lambda host: host.perform(DeleteAddress("virbr0", V6)),
    "route 10.77.0.0/16": lambda host: host.perform(DeleteRoute("virbr0", route_of(host))),
    "sysctl net/ipv4/conf/virbr0/forwarding": lambda host: host.perform(WriteSysctl(FORWARDING, "0")),
    "bridge virbr0": lambda host: host.perform(SetLink("virbr0", mtu=1300, mac="52:54:00:00:00:99", stp=True)),
    "element virbr0": lambda host: delete_element(host, "virbr0"),
}


@pytest.mark.parametrize("what", CHANGES)
@hastily
async def test_what_another_process_changes_is_put_back_counted_and_told(what: str) -> None:
    async with running(host_with_uplink()) as daemon:
        uuid = await settled(daemon)
        before = daemon.host.state()
        assert view(daemon).healed_count == 0, "its own work is no drift"
        CHANGES[what](daemon.host)
        assert difference(before, daemon.host.state())
        await heals(daemon, before)
        told = daemon.told(Healed)
        assert any(what in one.what for one in told)
        assert {(str(one.uuid), one.name, one.details["cause"] in {"ip", "nft", ""}) for one in told} == {
            (uuid, "lab", True)
        }
        assert (view(daemon).healed_count, view(daemon).state) == (1, "active")


@hastily
async def test_a_bridge_set_down_is_raised_with_its_routes_and_addresses() -> None:
    async with running(host_with_uplink()) as daemon:
        await settled(daemon)
        before = daemon.host.state()
        daemon.host.perform(SetLink("virbr0", up=False))
        await heals(daemon, before)
        assert view(daemon).healed_count >= 1


@hastily
async def test_a_deleted_bridge_comes_back_with_all_that_hung_on_it_and_a_new_dnsmasq() -> None:
    async with running(host_with_uplink()) as daemon:
        uuid = await settled(daemon)
        pid = daemon.host.processes.running[uuid].pid
        bridge = daemon.host.link("virbr0")
        assert bridge is not None
        daemon.host.perform(DeleteLink("virbr0", ""))
        await eventually(lambda: daemon.host.link("virbr0"), "the bridge is back")
        await quiet(daemon)
        entry = daemon.host.links.find("virbr0")
        assert entry is not None
        assert (entry.link.mac, entry.link.up, {V4, V6} <= entry.addresses, len(entry.routes)) == (
            bridge.mac,
            True,
            True,
            1,
        )
        assert daemon.host.processes.running[uuid].pid != pid
        assert [told.what for told in daemon.told(Healed)] == ["bridge virbr0"]


@hastily
async def test_a_dnsmasq_that_ended_is_started_again_and_keeps_its_leases() -> None:
    async with running(host_with_uplink()) as daemon:
        uuid = await settled(daemon)
        daemon.host.processes.kept[uuid] = "1 52:54:00:00:00:01 192.168.77.10 web1 *\n"
        daemon.host.processes.kill(uuid)
        await eventually(lambda: uuid in daemon.host.processes.running, "it runs again")
        await quiet(daemon)
        assert "web1" in daemon.host.processes.kept[uuid]
        assert (view(daemon).healed_count, [told.what for told in daemon.told(Healed)]) == (1, ["dnsmasq"])


@hastily
async def test_a_file_of_dnsmasq_that_was_written_over_is_written_again_and_read() -> None:
    async with running(host_with_uplink()) as daemon:
        uuid = await settled(daemon)
        before, pid = daemon.host.state(), daemon.host.processes.running[uuid].pid
        daemon.host.processes.write(uuid, "servers", "server=6.6.6.6\n")
        await heals(daemon, before)
        assert daemon.host.processes.reloads == [uuid]
        assert daemon.host.processes.running[uuid].pid == pid


@hastily
async def test_new_name_servers_of_the_host_are_followed_and_are_no_drift() -> None:
    async with running(host_with_uplink()) as daemon:
        uuid = await settled(daemon)
        daemon.host.processes.change_resolvers("9.9.9.9")
        files = daemon.host.processes.files
        await eventually(lambda: "9.9.9.9" in files[uuid]["servers"], "the servers are followed")
        await quiet(daemon)
        assert daemon.host.processes.reloads == [uuid]
        assert (view(daemon).healed_count, daemon.told(Healed)) == (0, [])


@hastily
async def test_a_network_that_starts_after_they_changed_gets_the_hosts_new_name_servers() -> None:
    async with running(host_with_uplink()) as daemon:
        uuid = await settled(daemon)
        files = daemon.host.processes.files
        await daemon.services.networks.stop(ROOT, UUID(uuid))
        daemon.host.processes.change_resolvers("9.9.9.9")
        await quiet(daemon)
        await daemon.services.networks.start(ROOT, UUID(uuid))
        assert "9.9.9.9" in files[uuid]["servers"]


@hastily
async def test_leases_are_announced_when_dnsmasq_writes_them_and_are_no_drift() -> None:
    async with running(host_with_uplink()) as daemon:
        uuid = await settled(daemon)
        daemon.host.processes.write(uuid, "leases", "4102444800 52:54:00:00:00:01 192.168.77.10 web1 *\n")
        await eventually(lambda: daemon.told(LeaseChange), "the lease is announced")
        daemon.host.processes.write(uuid, "leases", "")
        await eventually(lambda: len(daemon.told(LeaseChange)) == 2, "its end is announced")
        assert [(one.added, one.lease.address) for one in daemon.told(LeaseChange)] == [
            (True, "192.168.77.10"),
            (False, "192.168.77.10"),
        ]
        assert view(daemon).healed_count == 0


@hastily
async def test_what_somebody_else_put_on_the_bridge_stays() -> None:
    async with running(host_with_uplink()) as daemon:
        await settled(daemon)
        daemon.host.perform(AddAddress("virbr0", ip_interface("192.168.77.53/24")))
        await quiet(daemon)
        entry = daemon.host.links.find("virbr0")
        assert entry is not None and ip_interface("192.168.77.53/24") in entry.addresses
        assert view(daemon).healed_count == 0


@hastily
async def test_rules_are_counted_for_the_network_they_belong_to() -> None:
    async with running(host_with_uplink()) as daemon:
        await settled(daemon)
        await settled(daemon, "other", 78)
        before = daemon.host.state()
        delete_element(daemon.host, "virbr1")
        await heals(daemon, before)
        assert (view(daemon).healed_count, view(daemon, "other").healed_count) == (0, 1)
        daemon.host.rules.flush_ruleset()
        await heals(daemon, before)
        assert (view(daemon).healed_count, view(daemon, "other").healed_count) == (1, 2)


@hastily
async def test_what_hundreds_share_is_told_without_holding_up_the_loop() -> None:
    async with running(host_with_uplink()) as daemon:
        names = [f"net{number}" for number in range(3 * SLICE)]
        for number, name in enumerate(names):
            document = {"name": name, "mode": "nat", "addresses": [{"address": f"10.{number}.0.1/24"}]}
            await daemon.services.networks.start(ROOT, (await defined(daemon, json.dumps(document))).uuid)
        await quiet(daemon)
        daemon.notices.clear()
        daemon.host.rules.delete_rule("inet", "forward", 0)
        most = 0
        while len(daemon.told(Healed)) < len(names):
            before = len(daemon.told(Healed))
            await asyncio.sleep(0)
            most = max(most, len(daemon.told(Healed)) - before)
        assert most == SLICE
        assert sorted(one.name for one in daemon.told(Healed)) == sorted(names)
        assert {view(daemon, name).healed_count for name in names} == {1}


@hastily
async def test_a_foreign_rule_in_our_chains_is_removed_and_counted_for_nobody_else() -> None:
    async with running(host_with_uplink()) as daemon:
        await settled(daemon)
        before = daemon.host.state()
        held = daemon.host.rules.tables["inet"].elements
        one = next(element for members in held.values() for element in members.values())
        daemon.host.rules.add_element(replace(one, key=("br-evil", *one.key[1:])))
        assert difference(before, daemon.host.state())
        await heals(daemon, before)
        assert view(daemon).healed_count == 0


@hastily
async def test_after_lost_events_everything_is_looked_at() -> None:
    async with running(host_with_uplink()) as daemon:
        await settled(daemon)
        before = daemon.host.state()
        daemon.host.links._listeners.clear()  # the socket overran: no event of this comes through
        daemon.host.perform(DeleteAddress("virbr0", V4), WriteSysctl(FORWARDING, "0"))
        await quiet(daemon)
        assert difference(before, daemon.host.state())
        daemon.host.announce(Overflow("rtnetlink"))
        await heals(daemon, before)


@hastily
async def test_a_full_pass_finds_what_no_event_told() -> None:
    async with running(host_with_uplink()) as daemon:
        uuid = await settled(daemon)
        before = daemon.host.state()
        daemon.host.deafen()
        delete_element(daemon.host, "virbr0")
        daemon.host.perform(DeleteAddress("virbr0", V6))
        del daemon.host.processes.running[uuid]
        await daemon.services.reconcile(ROOT)
        assert not difference(before, daemon.host.state())


def forwards(host: MemoryHost, device: str) -> str:
    """Whether a device forwards."""
    return host.links.values["net", "ipv4", "conf", device, "forwarding"]


@hastily
async def test_forwarding_of_uplinks_is_kept_and_given_back_with_the_last_network() -> None:
    async with running(host_with_uplink()) as daemon:
        first = await defined(daemon, lab())
        second = await defined(daemon, lab("other", 78))
        assert forwards(daemon.host, "eth0") == "0"
        await daemon.services.networks.start(ROOT, first.uuid)
        await daemon.services.networks.start(ROOT, second.uuid)
        await quiet(daemon)
        daemon.host.perform(WriteSysctl(("net", "ipv4", "conf", "eth0", "forwarding"), "0"))
        await eventually(lambda: forwards(daemon.host, "eth0") == "1", "it is switched on again")
        await quiet(daemon)
        assert (view(daemon).healed_count, view(daemon, "other").healed_count) == (1, 1)
        await daemon.services.networks.stop(ROOT, first.uuid)
        assert forwards(daemon.host, "eth0") == "1"
        await daemon.services.networks.stop(ROOT, second.uuid)
        assert forwards(daemon.host, "eth0") == "0"


@hastily
async def test_a_changed_uplink_is_followed() -> None:
    async with running(host_with_uplink()) as daemon:
        await settled(daemon)
        daemon.host.links.create("wwan0", "")
        daemon.host.perform(SetLink("wwan0", up=True), AddAddress("wwan0", ip_interface("100.64.0.2/24")))
        await eventually(lambda: forwards(daemon.host, "wwan0") == "1", "the new uplink forwards")
        assert view(daemon).healed_count == 0
