"""Starts and stops of switches on a host in memory: whole or not at all, whatever fails and whoever is killed."""

import asyncio
from contextlib import suppress
from dataclasses import replace
from ipaddress import ip_interface
from typing import Any

import pytest
from support.memory_calls import Call, Refusal, crash, nth, verb
from support.memory_daemon import ROOT, Running
from support.memory_host import difference
from support.memory_switches import (
    OWN,
    POLICY,
    RULE,
    addresses,
    calls_of,
    deaf,
    define,
    network_state,
    rich_host,
    start,
    starting,
    view,
)

from vnetd.model.errors import HostError, Unsupported, VnetError
from vnetd.plan.kernel import (
    GiveAddress,
)
from vnetd.plan.possessions import HeldAddress


async def test_whichever_call_of_a_start_fails_every_address_and_route_is_where_it_was() -> None:
    calls = await calls_of(starting)
    kinds = {f"kernel.{verb}{kind}" for verb in ("Give", "Take") for kind in ("Address", "Route", "Rule")}
    assert kinds <= {call.verb for call in calls}
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
            assert RULE.through("eth0", "br0") in host.links.policy_rules, f"after {call} failed"
            unsettled = [one for one in view(daemon).problems if "name servers" not in one and "move rules" not in one]
            assert not unsettled, "at worst these have not followed"


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
        assert host.links.policy_rules == [RULE], f"killed at {call}"


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
        assert host.links.policy_rules == [RULE], f"killed at {call}"


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
