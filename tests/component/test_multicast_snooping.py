"""Whether the bridge of a network snoops multicast: from its start on, whatever others make of it, and changed live."""

import json
from typing import Any

import pytest
from support.hasty_loop import hastily
from support.memory_daemon import ROOT, Running, lab, running, view
from support.memory_healing import quiet, settled
from support.memory_host import MemoryHost, difference, host_with_uplink
from support.waiting import eventually

from vnetd.model.errors import HostError
from vnetd.plan.kernel import CreateBridge, DeleteLink, SetBridge
from vnetd.plan.links import BridgeOptions
from vnetd.service.network_object import RUNNING
from vnetd.service.views import Healed

ON, OFF = (SetBridge("virbr0", BridgeOptions(multicast_snooping=asked)) for asked in (True, False))


def snoops(host: MemoryHost) -> bool:
    link = host.link("virbr0")
    assert link is not None and link.bridge is not None
    return link.bridge.multicast_snooping


def asking(asked: bool) -> dict[str, Any]:
    return {"bridge": {"multicast_snooping": asked}}


async def redefine(daemon: Running, uuid: str, asked: bool) -> None:
    await daemon.services.networks.define(ROOT, lab(uuid=uuid, **asking(asked)), {})


@pytest.mark.parametrize("asked", [False, True])
@hastily
async def test_the_bridge_is_made_as_asked_and_healed_when_somebody_changes_it(asked: bool) -> None:
    async with running(host_with_uplink()) as daemon:
        uuid = await settled(daemon, **asking(asked))
        made = [one for one in daemon.host.links.done if isinstance(one, CreateBridge | SetBridge)]
        assert [type(one) for one in made] == [CreateBridge], "in one request with all the rest"
        assert snoops(daemon.host) is asked
        before = daemon.host.state()
        daemon.host.perform(OFF if asked else ON)
        await eventually(lambda: not difference(before, daemon.host.state()), "it is as it was")
        await quiet(daemon)
        (told,) = daemon.told(Healed)
        assert (str(told.uuid), told.what, view(daemon).healed_count) == (uuid, "bridge virbr0", 1)
        daemon.host.perform(DeleteLink("virbr0", ""))
        await eventually(lambda: daemon.host.link("virbr0"), "the bridge is back")
        assert snoops(daemon.host) is asked


@hastily
async def test_it_is_changed_while_the_network_runs_and_told() -> None:
    async with running(host_with_uplink()) as daemon:
        uuid = await settled(daemon)
        link = daemon.host.link("virbr0")
        for asked in (True, False):
            daemon.host.links.done.clear()
            await redefine(daemon, uuid, asked)
            assert daemon.host.links.done == [ON if asked else OFF], "and nothing else is touched"
            described = json.loads(daemon.services.networks.describe(view(daemon).uuid, "json", {}))
            assert described["bridge"].get("multicast_snooping", False) is asked
        await quiet(daemon)
        assert daemon.host.link("virbr0") == link
        assert (view(daemon).healed_count, daemon.told(Healed)) == (0, [])


@hastily
async def test_a_change_the_host_refuses_leaves_the_network_as_it_was() -> None:
    async with running(host_with_uplink()) as daemon:
        uuid = await settled(daemon)
        daemon.host.links.refuse[SetBridge] = 95
        with pytest.raises(HostError, match="set bridge options of virbr0"):
            await redefine(daemon, uuid, True)
        assert not snoops(daemon.host)
        assert "multicast_snooping" not in daemon.services.networks.describe(view(daemon).uuid, "json", {})


@hastily
async def test_a_plan_of_the_change_tells_that_option_alone_and_that_guests_notice_nothing() -> None:
    async with running(host_with_uplink()) as daemon:
        uuid = await settled(daemon)
        plan = json.loads(await daemon.services.networks.plan(ROOT, lab(uuid=uuid, **asking(True)), {}))
        arguments = {"name": "virbr0", "options": {"multicast_snooping": True}}
        assert [(step["operation"], step["arguments"]) for step in plan["steps"]] == [("SetBridge", arguments)]
        assert plan["disturbs_guests"] is False


@hastily
async def test_a_network_an_earlier_version_left_snooping_is_taken_over_and_snoops_no_more() -> None:
    """Its record says nothing of it, and its bridge is as the kernel makes them."""
    host = host_with_uplink()
    async with running(host) as daemon:
        uuid = await settled(daemon)
    before = host.state()
    assert "multicast_snooping" not in host.files.files[RUNNING][uuid]
    host.perform(ON)
    host.links.done.clear()
    async with running(host) as daemon:
        assert host.links.done == [OFF], "all else runs on untouched"
        assert not difference(before, host.state())
        assert (view(daemon).state, view(daemon).healed_count) == ("active", 1)
        assert [told.what for told in daemon.told(Healed)] == ["bridge virbr0"]
