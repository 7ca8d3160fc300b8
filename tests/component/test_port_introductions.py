"""Guests whose MAC address nobody told: their first packet tells it, and nothing passes before."""

from typing import Any

import pytest
from support.hasty_loop import hastily
from support.memory_daemon import ROOT, Running, defined, lab, running
from support.memory_host import MemoryHost, host_with_uplink
from support.waiting import eventually

from vnetd.model.errors import Invalid, Unsupported
from vnetd.packets.sightings import Packet
from vnetd.service.views import Caller, PortView

USER = Caller(1000, name=":1.2")
MAC, OTHER = "52:54:00:00:00:61", "52:54:00:00:00:62"


async def unseen(daemon: Running, caller: Caller = ROOT, **spec: Any) -> PortView:
    """A tap for such a guest."""
    if not daemon.services.networks.list():
        network = await defined(daemon, lab())
        await daemon.services.networks.start(ROOT, network.uuid)
    attached = await daemon.services.ports.attach(caller, "lab", {"kind": "tap", "learn_mac": True, **spec})
    return attached.port


def sent(device: str, mac: str = MAC) -> Packet:
    """The guest's first words."""
    return Packet(device, False, device, mac, 0x0800, b"")


def kept_out(host: MemoryHost, device: str) -> bool:
    """Whether the rules drop all from and to the guest."""
    elements = host.rules.tables["bridge"].elements
    return all((device,) in elements.get(name, {}) for name in ("introducing_from", "introducing_to"))


async def known(daemon: Running, device: str, mac: str) -> None:
    """Until the guest is known by this address and all that follows is done."""
    port = daemon.services.ports.objects.by_name(device)
    assert port is not None
    await eventually(lambda: port.record.mac == mac and not port.target.lock.locked(), f"it is known as {mac}")
    await daemon.looked()


@hastily
async def test_nothing_passes_until_the_guest_has_spoken_and_its_filter_holds_it_to_that_address() -> None:
    host = host_with_uplink()
    async with running(host) as daemon:
        port = await unseen(daemon, USER)
        assert kept_out(host, port.device)
        assert (port.mac, port.filter, port.state) == ("", "vnetd-guest", "active")
        side = daemon.host.link(port.device)
        assert side is not None
        host.packets.show(sent(port.device))
        await known(daemon, port.device, MAC)
        assert not kept_out(host, port.device)
        held = {key for members in host.rules.tables["bridge"].elements.values() for key in members}
        assert any(port.device in key and MAC in key for key in held), "its filter names the address"
        now = daemon.host.link(port.device)
        assert now is not None and now.mac == side.mac, "the host's side keeps its own"
        assert daemon.services.ports.get(port.device).state == "active"


@hastily
async def test_a_second_address_is_no_introduction() -> None:
    host = host_with_uplink()
    async with running(host) as daemon:
        port = await unseen(daemon, filter="no-mac-spoofing")
        host.packets.show(sent(port.device))
        await known(daemon, port.device, MAC)
        host.packets.show(sent(port.device, OTHER))
        await daemon.looked()
        assert daemon.services.ports.get(port.device).mac == MAC


@hastily
async def test_who_calls_itself_another_guest_stays_out() -> None:
    host = host_with_uplink()
    async with running(host) as daemon:
        port = await unseen(daemon, USER)
        await daemon.services.ports.attach(ROOT, "lab", {"kind": "tap", "mac": MAC})
        for mac in (MAC, "ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:01"):
            host.packets.show(sent(port.device, mac))
        await daemon.looked()
        assert kept_out(host, port.device)
        host.packets.show(sent(port.device, OTHER))
        await known(daemon, port.device, OTHER)


@hastily
async def test_a_guest_that_has_not_spoken_is_still_unknown_after_a_restart_and_then_learned() -> None:
    host = host_with_uplink()
    async with running(host) as daemon:
        device = (await unseen(daemon, USER)).device
        before = daemon.host.state()
    async with running(host) as daemon:
        assert daemon.host.state() == before
        assert kept_out(host, device)
        host.packets.show(sent(device))
        await known(daemon, device, MAC)
        before = daemon.host.state()
    async with running(host) as daemon:
        assert daemon.host.state() == before
        assert daemon.services.ports.get(device).mac == MAC


@hastily
async def test_what_cannot_be_learned_is_refused() -> None:
    host = host_with_uplink()
    async with running(host) as daemon:
        await unseen(daemon)
        with pytest.raises(Invalid, match="nothing to learn"):
            await unseen(daemon, mac=MAC)
        host.packets.problem = "packet log group 7 is refused"
        words = r"MAC address needs packets that rules log .*: packet log group 7 is refused; give it as mac$"
        with pytest.raises(Unsupported, match=words):
            await unseen(daemon)
