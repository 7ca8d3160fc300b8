"""``vnetctl filter …``."""

from argparse import Namespace
from typing import Any

from vnetctl.errors import CommandError, Exit
from vnetctl.grammar import DOCUMENT, EDITED, PARAMETERS, argument, flag, format_of, name_of, names_of, only, verb
from vnetctl.objects import BINDING, FILTER, PORT
from vnetctl.output import Row
from vnetctl.session import Session, by_parameter, each, properties, rows

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
    path = await FILTER.path(session, arguments.name)
    if arguments.format == "table":
        session.output.labelled(LIST, await properties(session, path, FILTER.interface))
    else:
        session.output.document(await FILTER.describe(session, path, arguments.format))


async def bind(session: Session, arguments: Namespace) -> None:
    """Put a filter in force on a port, or on a device vnetd did not make."""
    from vnetctl.connection import options

    values = options(by_parameter(arguments.parameters))
    device, name = arguments.device, arguments.filter
    if port := await _port(session, device):
        await session.daemon.call(port["path"], PORT.interface, "SetFilter", "sa{sv}", name, values)
        done = {"device": port["device"], "filter": name, "path": port["path"]}
    else:
        path = await session.daemon.manager("BindFilter", "ssa{sv}", device, name, values)
        done = {"device": device, "filter": name, "path": path}
    session.output.done(f"filter {name} bound to {done['device']}", done)


async def unbind(session: Session, arguments: Namespace) -> None:
    """Take the filter off a port or device."""

    async def one(target: str) -> Row:
        if (port := await _port(session, target)) and port["filter"]:
            await session.daemon.call(port["path"], PORT.interface, "SetFilter", "sa{sv}", "", {})
            return port
        if binding := await _binding(session, target):
            await session.daemon.call(binding["path"], BINDING.interface, "Delete")
            return binding
        raise CommandError(f"no filter is bound to {target!r}: 'vnetctl filter bindings' lists them", Exit.NOT_FOUND)

    await each(session, arguments.devices, one, "filter {filter} unbound from {device}")


async def bindings(session: Session, arguments: Namespace) -> None:
    """Filters in force on devices vnetd did not make."""
    session.output.listing(BINDINGS, await rows(session, "ListBindings"), only=arguments.only)


async def _port(session: Session, target: str) -> dict[str, Any] | None:
    try:
        path = await PORT.path(session, target)
    except CommandError as error:
        if error.code is Exit.NOT_FOUND:
            return None
        raise
    return await properties(session, path, PORT.interface)


async def _binding(session: Session, target: str) -> dict[str, Any] | None:
    found = await rows(session, "ListBindings")
    return next((row for row in found if target in (row["device"], row["uuid"])), None)


VERBS = (
    verb("list", list_, "list filters", only(name="name", uuid="uuid")),
    verb(
        "show", show, "show one filter: its document, what uses it, or its rules on a device",
        name_of("FILTER"),
        format_of("xml", "json"),
        flag("--bound", "FILTER is a port or device: the rules in force there, counted"),
    ),
    verb(
        "define", FILTER.giving("Define", "defined"), "keep a filter's document; what uses it follows at once",
        *DOCUMENT,
    ),
    verb("undefine", FILTER.acting("Undefine", "undefined"), "forget filters that nothing uses", names_of("FILTER")),
    verb("edit", FILTER.edit, "change a filter's document in $VISUAL or $EDITOR", name_of("FILTER"), EDITED),
    verb(
        "bind", bind, "put a filter in force on a port, or on a device vnetd did not make",
        argument("device", metavar="DEVICE", help="the device, or a port's UUID"),
        argument("filter", metavar="FILTER", help="name or UUID"),
        PARAMETERS,
    ),
    verb(
        "unbind", unbind, "take the filter off ports or devices",
        argument("devices", nargs="+", metavar="DEVICE", help="the device, or the UUID of a port or binding"),
    ),
    verb(
        "bindings", bindings, "list filters in force on devices vnetd did not make",
        only(device="device", uuid="uuid"),
    ),
)  # fmt: skip
