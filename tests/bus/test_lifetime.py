"""Connections that ports are tied to: who leaves the bus is told of, also when nobody listened."""

from collections.abc import Awaitable, Callable

from dbus_next.aio.message_bus import MessageBus
from support.fake_services import FakeServices
from support.fake_world import network_view
from support.private_bus import PrivateBus, client_of, method_call
from support.waiting import eventually

from vnetd.bus.server import BusServer
from vnetd.service.views import Caller


async def attached_by(services: FakeServices, client: MessageBus) -> Caller:
    """Who the services think attaches a port when this client does."""
    call = method_call("/org/vnetd1", "org.vnetd1.Manager", "Attach", "sa{sv}", "lab", {})
    reply = await client.call(call)
    assert reply is not None and reply.signature == "oa{sv}", reply and reply.body
    caller: Caller = [call[1] for call in services.world.calls if call[0] == "attach"][-1]
    return caller


async def test_a_caller_is_named_and_told_of_when_it_leaves(
    bus: PrivateBus, server: BusServer, services: FakeServices
) -> None:
    services.world.add("network", network_view("lab"))
    async with client_of(bus) as client:
        caller = await attached_by(services, client)
        assert caller.connection.endswith(f"/{client.unique_name}") and caller.present() and caller.administrator
        assert caller.connection not in services.gone
    await eventually(lambda: caller.connection in services.gone, "it is told of")
    assert not caller.present()


async def test_who_left_while_no_daemon_ran_is_told_of_at_the_start(
    bus: PrivateBus,
    services: FakeServices,
    server_with: Callable[..., Awaitable[BusServer]],
) -> None:
    services.world.add("network", network_view("lab"))
    first = await server_with()
    async with client_of(bus) as staying, client_of(bus) as leaving:
        stays, leaves = await attached_by(services, staying), await attached_by(services, leaving)
        await first.stop()
        leaving.disconnect()  # type: ignore[no-untyped-call]
        await leaving.wait_for_disconnect()  # type: ignore[no-untyped-call]
        # The same unique name on another bus is another connection.
        services.tied = {stays.connection, leaves.connection, f"0123abcd/{staying.unique_name}"}
        services.gone.clear()
        await server_with()
        expected = {leaves.connection, f"0123abcd/{staying.unique_name}"}
        assert expected <= set(services.gone) and stays.connection not in services.gone
