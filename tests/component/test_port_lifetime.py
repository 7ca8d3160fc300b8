"""Ports that end with the connection of their caller."""

import pytest
from support.hasty_loop import hastily
from support.memory_calls import Call, Refusal, verb
from support.memory_daemon import Running, defined, running
from support.memory_host import difference, host_with_uplink
from support.waiting import eventually

from vnetd.model.errors import Invalid
from vnetd.service.views import Caller, Removed

TIED = {"kind": "tap", "lifetime": "connection"}


def client(number: int = 7, *, here: list[bool] | None = None) -> Caller:
    """A client of a bus; ``here`` holds something as long as it is there."""
    present = [True] if here is None else here
    return Caller(1000, name=f":1.{number}", connection=f"bus/:1.{number}", present=lambda: bool(present))


async def raised(daemon: Running) -> None:
    """A network that runs."""
    await daemon.services.networks.start(client(), (await defined(daemon)).uuid)


def devices(daemon: Running) -> list[str]:
    """Devices of all ports."""
    return [port.device for port in daemon.services.ports.list()]


@hastily
async def test_a_tied_port_ends_with_its_callers_connection_and_no_other_does() -> None:
    async with running(host_with_uplink()) as daemon:
        await raised(daemon)
        ports = daemon.services.ports
        await ports.attach(client(), "lab", {"kind": "tap", "device": "free"})
        before = daemon.host.state()
        tied = await ports.attach(client(), "lab", {**TIED, "device": "tied"})
        await ports.open_tap(client(), "lab", {"lifetime": "connection", "device": "opened"})
        await ports.attach(client(8), "lab", {**TIED, "device": "others"})
        assert (tied.port.lifetime, ports.get("free").lifetime) == ("connection", "explicit")
        assert daemon.services.connections() == {"bus/:1.7", "bus/:1.8"}
        daemon.services.left("bus/:1.6")
        daemon.services.left("")
        daemon.services.left("bus/:1.7")
        await eventually(lambda: devices(daemon) == ["free", "others"], "its ports end")
        daemon.services.left("bus/:1.8")
        await eventually(lambda: devices(daemon) == ["free"], "the other's too")
        assert not difference(before, daemon.host.state())
        assert len(daemon.told(Removed)) == 3
        assert daemon.services.connections() == frozenset()


@hastily
async def test_a_tied_port_is_tied_still_after_a_restart() -> None:
    host = host_with_uplink()
    async with running(host) as daemon:
        await raised(daemon)
        await daemon.services.ports.attach(client(), "lab", {**TIED, "device": "tied"})
    async with running(host) as daemon:
        assert daemon.services.connections() == {"bus/:1.7"}
        assert daemon.services.ports.get("tied").lifetime == "connection"
        daemon.services.left("bus/:1.7")
        await eventually(lambda: not devices(daemon), "it ends")


@hastily
async def test_a_caller_that_leaves_while_its_port_is_made_leaves_none() -> None:
    async with running(host_with_uplink()) as daemon:
        await raised(daemon)
        before, here = daemon.host.state(), [True]

        async def leave(call: Call) -> None:
            if here and verb("kernel.SetLink")(call):
                here.clear()
                daemon.services.left("bus/:1.7")

        daemon.host.before = leave
        await daemon.services.ports.attach(client(here=here), "lab", TIED)
        await eventually(lambda: not devices(daemon), "it ends")
        assert not difference(before, daemon.host.state())


@hastily
async def test_a_tied_port_that_cannot_be_detached_is_detached_later() -> None:
    async with running(host_with_uplink()) as daemon:
        await raised(daemon)
        before = daemon.host.state()
        await daemon.services.ports.attach(client(), "lab", TIED)
        daemon.host.before = Refusal(verb("kernel.DeleteLink", "store.delete"), times=2)
        daemon.services.left("bus/:1.7")
        await eventually(lambda: not devices(daemon), "it ends at last", deadline=60)
        assert not difference(before, daemon.host.state())


@hastily
async def test_a_caller_without_connection_cannot_tie_a_port_to_it() -> None:
    async with running(host_with_uplink()) as daemon:
        await raised(daemon)
        for caller, spec, words in ((Caller(0), TIED, "connection"), (client(), {**TIED, "lifetime": "x"}, "lifetime")):
            with pytest.raises(Invalid, match=words):
                await daemon.services.ports.attach(caller, "lab", spec)
