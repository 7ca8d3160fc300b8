"""What the doctor finds on a host in memory, whose every fault a test decides."""

from typing import Any

import pytest
from support.hasty_loop import hastily
from support.memory_daemon import ROOT, Running, defined, lab, running
from support.memory_host import MemoryHost, host_with_uplink

from vnetd.model.errors import Invalid, NotFound
from vnetd.plan.kernel import SetLink, WriteSysctl
from vnetd.plan.rules import Hook, Stranger
from vnetd.service.views import PortView

GUEST = "192.168.77.50"
OUT: dict[str, Any] = {"to": "198.51.100.7", "protocol": "tcp", "port": 443}
WALL = Stranger(
    "ip",
    "filter",
    "FORWARD",
    Hook("filter", "forward", 0, "drop"),
    {"FORWARD": (({"xt": None}, {"accept": None}),)},
    {},
)


async def plugged(daemon: Running, **spec: Any) -> PortView:
    """A guest in a network that runs."""
    network = await defined(daemon, lab())
    await daemon.services.networks.start(ROOT, network.uuid)
    wanted = {"kind": "tap", "filter": "clean-traffic", "parameter.IP": GUEST, **spec}
    return (await daemon.services.ports.attach(ROOT, "lab", wanted)).port


async def problems(daemon: Running, target: str, **probe: Any) -> list[str]:
    """Texts of what is wrong, or cannot be told."""
    found = await daemon.services.diagnosis.examine(target, probe)
    return [one.text for one in found if one.state != "ok" and one.check != "link"]


@hastily
async def test_nothing_is_wrong_where_nothing_is_wrong() -> None:
    async with running(host_with_uplink()) as daemon:
        port = await plugged(daemon)
        for target in (port.device, str(port.uuid)):
            assert await problems(daemon, target, **OUT) == []
        assert await problems(daemon, "lab") == []


def damage_rules(host: MemoryHost, _: PortView) -> None:
    host.rules.others = (WALL,)


def damage_forwarding(host: MemoryHost, _: PortView) -> None:
    host.perform(WriteSysctl(("net", "ipv4", "conf", "virbr0", "forwarding"), "0"))


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (damage_rules, "chain FORWARD of table ip filter may drop it: its policy is drop, and xt cannot be told"),
        (damage_forwarding, "sysctl net.ipv4.conf.virbr0.forwarding is not 1: the host does not forward"),
    ],
)
@hastily
async def test_what_stands_in_the_way_is_named(damage: Any, says: str) -> None:
    host = host_with_uplink()
    async with running(host) as daemon:
        port = await plugged(daemon)
        for target in daemon.services.networks.list():
            assert target.active
        host.deafen()  # or it would be repaired before it is found
        damage(host, port)
        assert await problems(daemon, port.device, **OUT) == [says]


@hastily
async def test_a_device_that_is_down_or_elsewhere_is_named() -> None:
    host = host_with_uplink()
    async with running(host) as daemon:
        port = await plugged(daemon)
        host.deafen()
        host.perform(SetLink(port.device, up=False), SetLink(port.device, master=""))
        assert await problems(daemon, port.device) == [
            f"device {port.device} is down",
            f"device {port.device} is in no bridge, not in virbr0",
        ]


@hastily
async def test_an_address_nobody_knows_is_said_and_so_is_the_rule_that_waits_for_it() -> None:
    async with running(host_with_uplink()) as daemon:
        network = await defined(daemon, lab())
        await daemon.services.networks.start(ROOT, network.uuid)
        spec = {"kind": "tap", "filter": "clean-traffic", "parameter.CTRL_IP_LEARNING": "dhcp"}
        port = (await daemon.services.ports.attach(ROOT, "lab", spec)).port
        assert (await problems(daemon, port.device, **OUT))[:2] == [
            f"no address of the guest of port {port.device} is known: it has no lease",
            "an IPv4 address of the guest is not known",
        ]
        rules = await daemon.services.diagnosis.explain(port.device)
        assert {one.filter for one in rules} == {"learning-dhcp"}


@hastily
async def test_what_is_nothing_cannot_be_examined() -> None:
    async with running(host_with_uplink()) as daemon:
        port = await plugged(daemon)
        with pytest.raises(NotFound):
            await daemon.services.diagnosis.examine("nothing", {})
        with pytest.raises(Invalid, match="give to or from"):
            await daemon.services.diagnosis.examine(port.device, {"port": 80})
