"""What is asked for a port: names it can have, and specs that are refused before anything happens."""

from typing import Any

import pytest
from support.hasty_loop import hastily
from support.memory_daemon import ROOT, raised, running
from support.memory_host import difference, host_with_uplink
from support.memory_ports import plug

from vnetd.model.errors import Exists, InUse, Invalid, NotFound


@hastily
async def test_names_come_from_templates_and_taken_ones_are_refused() -> None:
    async with running(host_with_uplink()) as daemon:
        await raised(daemon)
        daemon.host.links.create("vnet1", "tun")
        names = [(await plug(daemon, "tap")).port.device for _ in range(3)]
        assert names == ["vnet0", "vnet2", "vnet3"]
        assert (await plug(daemon, "veth", device="web%d")).port.device == "web0"
        assert (await plug(daemon, "veth", device="db")).port.device == "db"
        for taken in ("db", "vnet1", "virbr0", "eth0", "lo"):
            with pytest.raises((Exists, InUse), match=taken):
                await plug(daemon, "tap", device=taken)
        with pytest.raises(NotFound, match="nothere"):
            await plug(daemon, "existing", device="nothere")
        await plug(daemon, "existing")
        with pytest.raises(InUse, match="tap7"):
            await plug(daemon, "existing")
        for own in ("virbr0", "db"):
            with pytest.raises(InUse, match=own):
                await plug(daemon, "existing", device=own)


@pytest.mark.parametrize(
    "device",
    [
        "sixteen-bytes-xx",
        "a/b",
        "..",
        ".",
        "a b",
        "a\nb",
        "a'b",
        'a"b',
        "a\0b",
        "%d%d",
        "%s",
        "all",
        "default",
        "é" * 8,
        "toolongforanyx3%d",
    ],
)
@hastily
async def test_a_name_no_device_can_have_is_invalid(device: str) -> None:
    async with running(host_with_uplink()) as daemon:
        await raised(daemon)
        before = daemon.host.state()
        for kind in ("veth", "tap", "tap-fd"):
            with pytest.raises(Invalid):
                await plug(daemon, kind, device=device)
        assert not difference(before, daemon.host.state())


@pytest.mark.parametrize(
    "spec",
    [
        {"mac": "01:00:5e:00:00:01"},
        {"mac": "nonsense"},
        {"mtu": 67},
        {"mtu": 65536},
        {"filter": "no such filter"},
        {"filter": "clean\ntraffic"},
        {"owner": -2},
        {"owner": 2**32},
        {"netns": 7},
        {"guest_device": "eth0; reboot"},
        {"guest_device": "sixteen-bytes-xx"},
        {"invented": "option"},
        {"parameter.IP": 7},
        {"parameter.IP": [7]},
        {"parameter.": "1"},
        {"parameter.IP": "10.0.0.1\n"},
        {"parameter.MAC": "52:54:00:00:00:01\n"},
    ],
)
@hastily
async def test_a_spec_that_breaks_a_rule_is_refused_and_nothing_happens(spec: dict[str, Any]) -> None:
    async with running(host_with_uplink()) as daemon:
        await raised(daemon)
        before, seen = daemon.host.state(), len(daemon.host.calls)
        with pytest.raises((Invalid, NotFound)):
            await plug(daemon, "veth", **spec)
        assert not difference(before, daemon.host.state())
        assert not [call for call in daemon.host.calls[seen:] if call.changes]


@pytest.mark.parametrize("kind", ["macvtap", "tap-fd", "", None, 7])
@hastily
async def test_a_kind_of_port_that_cannot_be_attached_is_refused(kind: object) -> None:
    async with running(host_with_uplink()) as daemon:
        await raised(daemon)
        with pytest.raises(Invalid, match="kind"):
            await daemon.services.ports.attach(ROOT, "lab", {} if kind is None else {"kind": kind})  # type: ignore[dict-item]
