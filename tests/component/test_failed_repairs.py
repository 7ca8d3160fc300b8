"""A repair that fails half-way is tried again at once, and what it made is told and counted as any other."""

import asyncio
from collections import Counter
from dataclasses import replace

import pytest
from support.hasty_loop import hastily
from support.memory_calls import Hook, Refusal, nothing, nth, verb
from support.memory_daemon import ROOT, Running, running, view
from support.memory_healing import quiet, settled
from support.memory_host import MemoryHost, difference, host_with_uplink
from support.memory_ports import plug
from support.memory_switches import office, rich_host, start
from support.memory_switches import view as switch_view
from support.waiting import eventually

from vnetd.model.errors import HostError
from vnetd.plan.kernel import DeleteLink, RenameLink, SetLink, WriteSysctl
from vnetd.reconcile.rules import RulesKeeper
from vnetd.service.views import Healed

AT_ONCE = 0.2
"""Seconds of the hasty loop within which two attempts are over that nobody holds back."""
EVERYWHERE = ("net", "ipv6", "conf", "all", "forwarding")


def told(daemon: Running) -> Counter[str]:
    """What was announced as repaired, each with how often."""
    return Counter(one.what for one in daemon.told(Healed))


def break_much(host: MemoryHost, uuid: str) -> None:
    """Bridge, dnsmasq, rules and forwarding go together."""
    host.processes.kill(uuid)
    host.perform(DeleteLink("virbr0", ""))
    host.rules.flush_ruleset()
    host.perform(WriteSysctl(EVERYWHERE, "0"))


def state(host: MemoryHost) -> dict[str, object]:
    """All there is, but for the number of the bridge: one that is made anew has another."""
    bridge, everything = host.link("virbr0"), host.state()
    assert bridge
    link, *on_it = everything["link virbr0"]  # type: ignore[misc]
    return everything | {"link virbr0": (replace(link, index=0), *on_it)}  # type: ignore[has-type]


async def mended(refusal: Hook) -> tuple[Counter[str], int]:
    """What is told of much that was broken at once, and how often it counts, if calls are refused meanwhile."""
    async with running(host_with_uplink()) as daemon:
        uuid = await settled(daemon)
        before = state(daemon.host)
        daemon.host.before = refusal
        break_much(daemon.host, uuid)
        await asyncio.sleep(AT_ONCE)
        assert not difference(before, state(daemon.host)), refusal
        assert (view(daemon).state, view(daemon).problems) == ("active", ())
        return told(daemon), view(daemon).healed_count


@hastily
async def test_whichever_call_fails_much_that_is_broken_heals_at_once_and_all_of_it_is_told_and_counted_once() -> None:
    whole = await mended(nothing)
    assert whole[0]["bridge virbr0"] == 1
    number, failed = 1, True
    while failed:
        refusal = Refusal(nth(number))
        assert await mended(refusal) == whole, refusal.refused
        failed, number = bool(refusal.refused), number + 1
    assert number > 10


@hastily
async def test_what_is_refused_again_and_again_is_tried_less_and_less_often_and_told_when_it_is_made() -> None:
    async with running(host_with_uplink()) as daemon:
        await settled(daemon)
        daemon.host.before = refusal = Refusal(verb("kernel.AddRoute"), times=1000)
        daemon.host.perform(DeleteLink("virbr0", ""))
        await asyncio.sleep(60)
        assert view(daemon).state == "degraded" and not told(daemon)
        assert len(refusal.refused) < 20
        daemon.host.before = nothing
        await eventually(lambda: view(daemon).state == "active", "it is tried again", deadline=60)
        assert (told(daemon), view(daemon).healed_count) == ({"bridge virbr0": 1}, 1)


@hastily
async def test_who_broke_it_is_named_though_the_first_attempt_failed() -> None:
    async with running(host_with_uplink()) as daemon:
        await settled(daemon)
        daemon.host.before = Refusal(verb("kernel.SetLink"))
        daemon.host.perform(SetLink("virbr0", mtu=1300))
        await asyncio.sleep(AT_ONCE)
        (repair,) = daemon.told(Healed)
        assert repair.what == "bridge virbr0" and repair.details["cause"] == "ip"


@hastily
async def test_a_port_that_got_its_name_back_is_told_though_the_attempt_failed_then() -> None:
    async with running(host_with_uplink()) as daemon:
        await settled(daemon)
        device = (await plug(daemon, "tap")).port.device
        await quiet(daemon)
        before = daemon.host.state()
        daemon.host.before = Refusal(verb("kernel.SetLink"))
        daemon.host.perform(SetLink(device, up=False), RenameLink(device, "theirs"))
        await asyncio.sleep(AT_ONCE)
        assert not difference(before, daemon.host.state())
        assert told(daemon) == {f"name of {device}": 1, f"port {device}": 1}
        assert view(daemon).healed_count == 1


async def test_a_switchs_bridge_is_told_to_be_repaired_though_an_uplink_is_away() -> None:
    host = rich_host()
    async with running(host) as daemon:
        await start(daemon, office())
        nic = host.link("eth0")
        assert nic
        host.links.remove(nic.index)
        await eventually(lambda: switch_view(daemon).state == "degraded", "an uplink is away")
        host.perform(SetLink("br0", mtu=1300))
        await eventually(lambda: told(daemon)["bridge br0"] == 1, "it is told")
        assert switch_view(daemon).state == "degraded"


async def test_what_a_look_repaired_is_told_though_chains_that_nobody_needs_cannot_go(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with running(host_with_uplink()) as daemon:
        await settled(daemon)
        await settled(daemon, "routed", 78, mode="route")
        routed = daemon.services.networks.get("routed")
        await daemon.services.networks.stop(ROOT, routed.uuid)
        daemon.host.deafen()
        daemon.host.rules.flush_ruleset()

        async def refuse(*_: object) -> None:
            raise HostError("commit rules", "what was asked", "Device or resource busy")

        monkeypatch.setattr(RulesKeeper, "_change", refuse)
        await daemon.services.reconcile(ROOT)
        await eventually(lambda: told(daemon)["table inet vnetd is missing"] == 1, "it is told")
        assert view(daemon).state == "active"
