"""A start is made whole or leaves nothing, whichever of its steps fails, and so is a change of what runs."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from support.memory_calls import Call, Refusal, nth, verb
from support.memory_daemon import ROOT, defined, lab, running, view
from support.memory_host import difference, host_with_uplink

from vnetd.model.errors import Busy, HostError, InUse, Unsupported, VnetError
from vnetd.plan.kernel import CreateBridge

STEPS = ["store.save", "kernel.CreateBridge", "kernel.WriteSysctl", "nft.commit", "kernel.AddAddress"]
STEPS += ["kernel.SetLink", "kernel.AddRoute", "dnsmasq.start"]
BEFORE_IT_STARTS = {"kernel.host_routes"}
"""What is asked of the host before anything is begun."""


async def calls_of_a_start() -> list[Call]:
    """Everything asked of the host between the call and its reply."""
    host = host_with_uplink()
    async with running(host) as daemon:
        host.deafen()  # else looks that find nothing come in between
        network = await defined(daemon)
        host.calls.clear()
        await daemon.services.networks.start(ROOT, network.uuid)
        return [call for call in host.calls if call.verb != "nft.chain"]


async def test_whatever_call_of_a_start_fails_nothing_is_left_and_it_can_be_started_again() -> None:
    tried: set[str] = set()
    for number in range(len(await calls_of_a_start())):
        host = host_with_uplink()
        async with running(host) as daemon:
            host.deafen()
            network = await defined(daemon)
            before = host.state()
            host.before = refusal = Refusal(nth(number))
            with pytest.raises(HostError) as caught:
                await daemon.services.networks.start(ROOT, network.uuid)
            (refused,) = refusal.refused
            tried.add(refused.verb)
            assert (refused.verb in str(caught.value), refused.words in str(caught.value)) == (True, True)
            assert not difference(before, host.state()), f"left over when {refused} fails"
            failed = view(daemon)
            assert not failed.active
            if refused.verb not in BEFORE_IT_STARTS:
                assert (failed.state, failed.problems) == ("failed", (str(caught.value),))
            await daemon.services.networks.start(ROOT, network.uuid)
            assert (view(daemon).state, view(daemon).problems) == ("active", ())
    assert tried >= set(STEPS)


def cancellation(task: "asyncio.Task[Any]", number: int) -> Callable[[Call], Awaitable[None]]:
    """A ``before`` that cancels ``task`` before the call of this number acts."""
    chosen = nth(number)

    async def cancel(call: Call) -> None:
        if chosen(call):
            task.cancel()
            await asyncio.sleep(0)

    return cancel


async def test_whenever_a_start_is_cancelled_nothing_is_left() -> None:
    for number in range(len(await calls_of_a_start())):
        host = host_with_uplink()
        async with running(host) as daemon:
            network = await defined(daemon)
            before = host.state()
            start = asyncio.create_task(daemon.services.networks.start(ROOT, network.uuid))

            host.before = cancellation(start, number)
            with pytest.raises(asyncio.CancelledError):
                await start
            assert not difference(before, host.state()), f"left over when cancelled during {host.calls[-1]}"
            await daemon.services.networks.start(ROOT, network.uuid)


@pytest.mark.parametrize("step", STEPS)
async def test_a_transient_network_that_cannot_start_is_as_if_it_had_never_been(step: str) -> None:
    host = host_with_uplink()
    async with running(host) as daemon:
        before, refusal, listed = host.state(), Refusal(verb(step)), []

        async def look(call: Call) -> None:
            listed.append(daemon.services.networks.list())  # callers may ask at any moment
            await refusal(call)

        host.before = look
        with pytest.raises(HostError):
            await daemon.services.networks.create(ROOT, lab(), {})
        assert listed
        assert not daemon.services.networks.list()
        assert not difference(before, host.state())


async def test_a_failure_to_undo_is_told_with_the_failure_and_the_next_start_takes_over_the_remains() -> None:
    host = host_with_uplink()
    async with running(host) as daemon:
        network = await defined(daemon)
        host.before = Refusal(verb("kernel.AddAddress", "kernel.DeleteLink"), times=2)
        with pytest.raises(HostError, match="AddAddress") as caught:
            await daemon.services.networks.start(ROOT, network.uuid)
        assert "DeleteLink virbr0" in "".join(caught.value.__notes__)
        assert "virbr0" in host.devices()
        await daemon.services.networks.start(ROOT, network.uuid)
        assert view(daemon).state == "active"


async def test_a_missing_dnsmasq_is_said_as_what_it_is() -> None:
    host = host_with_uplink()
    async with running(host) as daemon:
        network = await defined(daemon)
        before = host.state()

        async def missing(call: Call) -> None:
            if call.verb == "dnsmasq.start":
                raise Unsupported("dnsmasq is not installed")

        host.before = missing
        host.capabilities.lacking["dnsmasq"] = "it is not installed: install it"
        words = "^network lab needs the program dnsmasq, which this host has not: it is not installed: install it$"
        with pytest.raises(Unsupported, match=words):
            await daemon.services.networks.start(ROOT, network.uuid)
        assert not difference(before, host.state())


@pytest.mark.parametrize("alias", ["", "mine", "vnetd:network:00000000-0000-0000-0000-000000000000"])
async def test_a_device_of_the_bridges_name_that_is_not_ours_is_never_touched(alias: str) -> None:
    host = host_with_uplink()
    async with running(host) as daemon:
        network = await defined(daemon, lab(bridge={"name": "br-lab"}))
        host.perform(CreateBridge("br-lab", "52:54:00:00:00:01", 1400, stp=False, forward_delay=0, alias=alias))
        before, link = host.state(), host.link("br-lab")
        with pytest.raises(InUse, match="br-lab"):
            await daemon.services.networks.start(ROOT, network.uuid)
        assert not difference(before, host.state())
        assert host.link("br-lab") == link


async def test_a_generated_bridge_name_avoids_what_is_there() -> None:
    host = host_with_uplink()
    host.links.create("virbr0", "bridge")
    async with running(host) as daemon:
        assert (await defined(daemon)).bridge == "virbr1"
        assert (await defined(daemon, lab("other", 78))).bridge == "virbr2"


async def test_a_subnet_of_the_host_is_refused_with_the_name_of_its_interface() -> None:
    host = host_with_uplink()
    async with running(host) as daemon:
        for document in (
            lab(net=113, addresses=[{"address": "203.0.113.129/25"}]),
            lab("wide", 78, addresses=[{"address": "203.0.0.1/16"}]),
        ):
            network = await defined(daemon, json.dumps({**json.loads(document), "routes": []}))
            before = host.state()
            with pytest.raises(InUse, match="eth0"):
                await daemon.services.networks.start(ROOT, network.uuid)
            assert not difference(before, host.state())


async def test_a_subnet_of_another_active_network_is_refused_with_its_name() -> None:
    host = host_with_uplink()
    async with running(host) as daemon:
        first, second = await defined(daemon), await defined(daemon, lab("other"))
        await daemon.services.networks.start(ROOT, first.uuid)
        with pytest.raises(InUse, match=r"virbr0 \(network lab\)"):
            await daemon.services.networks.start(ROOT, second.uuid)
        await daemon.services.networks.stop(ROOT, first.uuid)
        await daemon.services.networks.start(ROOT, second.uuid)
        assert (view(daemon).state, view(daemon, "other").state) == ("inactive", "active")


async def test_stopping_gives_back_everything() -> None:
    host = host_with_uplink()
    async with running(host) as daemon:
        network = await defined(daemon)
        before = host.state()
        await daemon.services.networks.start(ROOT, network.uuid)
        assert host.state() != before
        await daemon.services.networks.stop(ROOT, network.uuid)
        assert not difference(before, host.state())
        assert view(daemon).state == "inactive"
        with pytest.raises(Busy):
            await daemon.services.networks.stop(ROOT, network.uuid)


@pytest.mark.parametrize("step", ["store.save", "kernel.DeleteLink", "dnsmasq.stop", "nft.commit", "store.delete"])
async def test_a_stop_that_fails_is_reported_and_can_be_finished(step: str) -> None:
    host = host_with_uplink()
    async with running(host) as daemon:
        network = await defined(daemon)
        before = host.state()
        await daemon.services.networks.start(ROOT, network.uuid)
        host.before = Refusal(verb(step))
        with pytest.raises(HostError, match=step):
            await daemon.services.networks.stop(ROOT, network.uuid)
        failed = view(daemon)
        assert (failed.state, failed.active, len(failed.problems)) == ("failed", True, 1)
        await daemon.services.networks.stop(ROOT, network.uuid)
        assert not difference(before, host.state())
        assert (view(daemon).state, view(daemon).problems) == ("inactive", ())


async def test_a_bridge_that_cannot_be_deleted_keeps_its_rules_and_all_failures_are_told() -> None:
    host = host_with_uplink()
    async with running(host) as daemon:
        network = await defined(daemon)
        await daemon.services.networks.start(ROOT, network.uuid)
        rules = host.ruleset()
        host.before = Refusal(verb("kernel.DeleteLink", "dnsmasq.stop"), times=2)
        with pytest.raises(HostError) as caught:
            await daemon.services.networks.stop(ROOT, network.uuid)
        assert "DeleteLink" in str(caught.value) and "dnsmasq.stop" in str(caught.value)
        assert host.ruleset() == rules
        assert host.files.files["run/networks"]


async def test_a_bridge_is_deleted_though_its_dnsmasq_does_not_end() -> None:
    host = host_with_uplink()
    async with running(host) as daemon:
        network = await defined(daemon)
        await daemon.services.networks.start(ROOT, network.uuid)
        host.before = Refusal(verb("dnsmasq.stop"))
        with pytest.raises(HostError, match=r"dnsmasq\.stop"):
            await daemon.services.networks.stop(ROOT, network.uuid)
        assert host.devices() == {"eth0"}


def changed() -> dict[str, Any]:
    """The network ``lab`` with a change to each of its parts."""
    document: dict[str, Any] = json.loads(lab())
    document["addresses"][1] = {"address": "fd78::1/64"}
    document["routes"] = [{"destination": "10.78.0.0/16", "gateway": "192.168.77.3"}]
    document["domain"] = {"name": "lab.example"}
    document["mtu"] = 1400
    document["mode"] = "route"
    return document


async def calls_of_a_change() -> list[Call]:
    """Everything asked of the host to redefine a running network."""
    host = host_with_uplink()
    async with running(host) as daemon:
        network = await defined(daemon)
        await daemon.services.networks.start(ROOT, network.uuid)
        host.deafen()
        host.calls.clear()
        await defined(daemon, json.dumps({**changed(), "uuid": str(network.uuid)}))
        return [call for call in host.calls if call.verb != "nft.chain"]


async def test_whatever_call_of_a_change_fails_the_network_goes_on_as_it_was() -> None:
    harmless = set()
    for number in range(len(await calls_of_a_change())):
        host = host_with_uplink()
        async with running(host) as daemon:
            network = await defined(daemon)
            await daemon.services.networks.start(ROOT, network.uuid)
            host.deafen()
            before = host.state()
            document = daemon.services.networks.describe(network.uuid, "json", {})
            kept = daemon.services.networks.describe(network.uuid, "json", {"inactive": True})
            host.before = refusal = Refusal(nth(number))
            try:
                await defined(daemon, json.dumps({**changed(), "uuid": str(network.uuid)}))
            except VnetError:
                pass
            else:
                harmless |= {call.verb for call in refusal.refused}
                continue
            assert not difference(before, host.state()), f"changed though {refusal.refused[0]} failed"
            assert daemon.services.networks.describe(network.uuid, "json", {}) == document
            assert daemon.services.networks.describe(network.uuid, "json", {"inactive": True}) == kept
            assert view(daemon).state == "active"
            await defined(daemon, json.dumps({**changed(), "uuid": str(network.uuid)}))
            assert host.link("virbr0").mtu == 1400  # type: ignore[union-attr]
    assert harmless == {"kernel.view_with", "dnsmasq.observe"}, (
        "the look for drift before it: that has looks of its own"
    )
