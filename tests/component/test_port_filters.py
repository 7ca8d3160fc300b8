"""Filters of ports and of devices: changed for all who use them or for nobody."""

import asyncio
from typing import Any

import pytest
from support.hasty_loop import hastily
from support.memory_calls import Call, Refusal, nth, verb
from support.memory_daemon import ROOT, raised, running
from support.memory_host import MemoryHost, difference, host_with_uplink
from support.memory_ports import plug

from vnetd.model.errors import Exists, HostError, InUse, Invalid, NotFound
from vnetd.ruleset.filter_symbols import protocol


async def nothing(_: Call) -> None:
    """Before a call."""


@hastily
async def test_a_filter_that_cannot_be_set_leaves_the_one_that_was() -> None:
    async with running(host_with_uplink()) as daemon:
        await raised(daemon)
        port = (await plug(daemon, "tap")).port
        await asyncio.sleep(1)
        before = daemon.host.state()
        for step in ("nft.commit", "store.save"):
            daemon.host.before = Refusal(verb(step))
            with pytest.raises(HostError):
                await daemon.services.ports.set_filter(ROOT, port.uuid, "no-ip-multicast", {})
            assert not difference(before, daemon.host.state())
            assert daemon.services.ports.get(port.device).filter == "no-mac-spoofing"
        with pytest.raises((Invalid, NotFound)):
            await daemon.services.ports.set_filter(ROOT, port.uuid, "no such", {})
        await daemon.services.ports.set_filter(ROOT, port.uuid, "", {})
        assert daemon.services.ports.get(port.device).filter == ""
        await daemon.services.ports.set_filter(ROOT, port.uuid, "no-mac-spoofing", {})
        assert not difference(before, daemon.host.state())


@hastily
async def test_a_bound_filter_is_whole_or_not_at_all() -> None:
    async with running(host_with_uplink()) as daemon:
        filters = daemon.services.filters
        before = daemon.host.state()
        for step in ("nft.commit", "store.save", "kernel.link"):
            daemon.host.before = Refusal(verb(step))
            with pytest.raises(HostError):
                await filters.bind(ROOT, "tap7", "no-mac-spoofing", {"MAC": ["52:54:00:00:00:07"]})
            assert not difference(before, daemon.host.state())
            assert not filters.bindings()
        binding = await filters.bind(ROOT, "tap7", "no-mac-spoofing", {"MAC": ["52:54:00:00:00:07"]})
        bound = daemon.host.state()
        with pytest.raises(Exists, match="tap7"):
            await filters.bind(ROOT, "tap7", "no-mac-spoofing", {"MAC": ["52:54:00:00:00:07"]})
        for step in ("nft.commit", "store.delete"):
            daemon.host.before = Refusal(verb(step))
            with pytest.raises(HostError):
                await filters.unbind(ROOT, binding.uuid)
            assert not difference(bound, daemon.host.state())
        await filters.unbind(ROOT, binding.uuid)
        assert not difference(before, daemon.host.state())
        with pytest.raises(NotFound):
            await filters.unbind(ROOT, binding.uuid)


@hastily
async def test_the_filter_of_a_port_is_set_on_the_port_and_not_bound_to_its_device() -> None:
    async with running(host_with_uplink()) as daemon:
        await raised(daemon)
        port = (await plug(daemon, "tap")).port
        with pytest.raises(InUse, match=port.device):
            await daemon.services.filters.bind(ROOT, port.device, "no-mac-spoofing", {"MAC": [port.mac]})


BLOCK = """<filter name='mine'>{uuid}<rule action='drop' direction='in'><{what}/></rule></filter>"""


@hastily
async def test_a_filter_that_cannot_be_kept_or_put_in_force_changes_for_nobody() -> None:
    async with running(host_with_uplink()) as daemon:
        await raised(daemon)
        filters = daemon.services.filters
        mine = await filters.define(ROOT, BLOCK.format(uuid="", what="icmp"), {})
        await plug(daemon, "tap", filter="mine")
        await asyncio.sleep(1)
        before, document = daemon.host.state(), filters.describe(mine.uuid, "xml", {})
        changed = BLOCK.format(uuid=f"<uuid>{mine.uuid}</uuid>", what="udp")
        for step in ("nft.commit", "store.save"):
            daemon.host.before = Refusal(verb(step))
            with pytest.raises(HostError):
                await filters.define(ROOT, changed, {})
            assert not difference(before, daemon.host.state())
            assert filters.describe(mine.uuid, "xml", {}) == document
        with pytest.raises(InUse, match="vnet0"):
            await filters.undefine(ROOT, mine.uuid)
        await filters.define(ROOT, changed, {})
        assert difference(before, daemon.host.state())


@hastily
async def test_a_filter_redefined_during_an_attachment_is_in_force_in_its_new_form() -> None:
    for number in range(12):
        host = host_with_uplink()
        async with running(host) as daemon:
            await raised(daemon)
            filters = daemon.services.filters
            mine = await filters.define(ROOT, BLOCK.format(uuid="", what="icmp"), {})
            changed = BLOCK.format(uuid=f"<uuid>{mine.uuid}</uuid>", what="udp")
            redefining: list[asyncio.Task[Any]] = []
            chosen = nth(number)

            async def redefine(call: Call) -> None:
                if not redefining and chosen(call):  # noqa: B023
                    redefining.append(asyncio.create_task(filters.define(ROOT, changed, {})))  # noqa: B023
                    await asyncio.sleep(0.1)

            host.before = redefine
            await plug(daemon, "tap", filter="mine", mac="52:54:00:00:00:07")
            host.before = nothing
            for task in redefining:
                await task
            if not redefining:
                break
            await asyncio.sleep(1)
            once = rules_of_filters(host)
            await daemon.services.reconcile(ROOT)
            assert rules_of_filters(host) == once
            before, after = (f"'right': {protocol(number)!r}}}" for number in (1, 17))
            assert after in repr(once) and before not in repr(once)
    else:
        raise AssertionError("an attachment has fewer calls")


def rules_of_filters(host: MemoryHost) -> dict[str, object]:
    """What is in force on ports."""
    return {key: value for key, value in host.ruleset().items() if " bridge " in key}


@hastily
async def test_a_builtin_filter_can_be_redefined_by_name_and_what_users_made_only_with_its_uuid() -> None:
    async with running(host_with_uplink()) as daemon:
        filters = daemon.services.filters
        mine = await filters.define(ROOT, BLOCK.format(uuid="", what="icmp").replace("mine", "no-ip-multicast"), {})
        assert filters.get("no-ip-multicast").uuid == mine.uuid
        with pytest.raises(Exists, match=str(mine.uuid)):
            await filters.define(ROOT, BLOCK.format(uuid="", what="udp").replace("mine", "no-ip-multicast"), {})
        named = f"<uuid>{mine.uuid}</uuid>"
        with pytest.raises(Exists, match="no-ip-multicast"):
            await filters.define(ROOT, BLOCK.format(uuid=named, what="udp"), {})
        with pytest.raises(Exists, match="no-ip-multicast"):
            await filters.define(ROOT, BLOCK.format(uuid=named, what="udp").replace("mine", "no-mac-spoofing"), {})
        await filters.define(ROOT, BLOCK.format(uuid=named, what="udp").replace("mine", "no-ip-multicast"), {})
        assert "udp" in filters.describe(mine.uuid, "xml", {})
