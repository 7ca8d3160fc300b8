"""``vnetctl filter …``."""

from argparse import Namespace
from typing import Any

from vnetctl.documents import describe, edit_definition, submit
from vnetctl.errors import CommandError, Exit
from vnetctl.output import Row
from vnetctl.session import Session, by_parameter, each, named, properties, rows

INTERFACE, BINDING, PORT = "org.vnetd1.Filter", "org.vnetd1.Binding", "org.vnetd1.Port"
LIST = (("UUID", "uuid"), ("Name", "name"), ("Used by", "used_by"))
BINDINGS = (("Device", "device"), ("Filter", "filter"), ("MAC address", "mac"), ("Parameters", "parameters"))

RULES = (
    ("Towards", "towards"),
    ("Rule", "rule"),
    ("Filter", "filter"),
    ("Chain", "chain"),
    ("Packets", "packets"),
    ("Bytes", "bytes"),
    ("Of devices", "shared"),
)


async def list_(session: Session, arguments: Namespace) -> None:
    """All filters."""
    session.output.listing(LIST, await rows(session, "ListFilters"), only=arguments.only)


async def show(session: Session, arguments: Namespace) -> None:
    """One filter: its document, or what uses it; or the rules in force on a device."""
    if arguments.bound:
        session.output.table(RULES, await session.daemon.manager("ExplainFilter", "s", arguments.name))
        return
    path = await _path(session, arguments.name)
    if arguments.format == "table":
        session.output.labelled(LIST, await properties(session, path, INTERFACE))
    else:
        session.output.document(await describe(session, path, INTERFACE, arguments.format))


async def define(session: Session, arguments: Namespace) -> None:
    """Keep a filter's document; what uses it follows at once."""
    path = await submit(session, "DefineFilter", arguments)
    found = await named(session, path, INTERFACE)
    session.output.done(f"filter {found['name']} defined from {arguments.file}", found)


async def undefine(session: Session, arguments: Namespace) -> None:
    """Forget filters."""

    async def one(name: str) -> Row:
        found = await named(session, await _path(session, name), INTERFACE)
        await session.daemon.call(found["path"], INTERFACE, "Undefine")
        return found

    await each(session, arguments.names, one, "filter {name} undefined")


async def edit(session: Session, arguments: Namespace) -> None:
    """Change a filter's document in an editor."""
    path = await _path(session, arguments.name)
    await edit_definition(session, path, INTERFACE, "DefineFilter", arguments.format)


async def bind(session: Session, arguments: Namespace) -> None:
    """Put a filter in force on a port, or on a device vnetd did not make."""
    from vnetctl.connection import options

    values = options(by_parameter(arguments.parameters))
    device, name = arguments.device, arguments.filter
    if port := await _port(session, device):
        await session.daemon.call(port["path"], PORT, "SetFilter", "sa{sv}", name, values)
        done = {"device": port["device"], "filter": name, "path": port["path"]}
    else:
        path = await session.daemon.manager("BindFilter", "ssa{sv}", device, name, values)
        done = {"device": device, "filter": name, "path": path}
    session.output.done(f"filter {name} bound to {done['device']}", done)


async def unbind(session: Session, arguments: Namespace) -> None:
    """Take the filter off a port or device."""

    async def one(target: str) -> Row:
        if (port := await _port(session, target)) and port["filter"]:
            await session.daemon.call(port["path"], PORT, "SetFilter", "sa{sv}", "", {})
            return port
        if binding := await _binding(session, target):
            await session.daemon.call(binding["path"], BINDING, "Delete")
            return binding
        raise CommandError(f"no filter is bound to {target!r}: 'vnetctl filter bindings' lists them", Exit.NOT_FOUND)

    await each(session, arguments.devices, one, "filter {filter} unbound from {device}")


async def bindings(session: Session, arguments: Namespace) -> None:
    """Filters in force on devices vnetd did not make."""
    session.output.listing(BINDINGS, await rows(session, "ListBindings"), only=arguments.only)


async def _port(session: Session, target: str) -> dict[str, Any] | None:
    try:
        path = await session.daemon.manager("GetPort", "s", target)
    except CommandError as error:
        if error.code is Exit.NOT_FOUND:
            return None
        raise
    return await properties(session, path, PORT)


async def _binding(session: Session, target: str) -> dict[str, Any] | None:
    found = await rows(session, "ListBindings")
    return next((row for row in found if target in (row["device"], row["uuid"])), None)


async def _path(session: Session, name: str) -> str:
    return str(await session.daemon.manager("GetFilter", "s", name))
