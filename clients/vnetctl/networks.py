"""``vnetctl network …``."""

import json
import time
from argparse import Namespace
from typing import Any

from vnetctl.documents import describe, edit_definition, lenient, submit
from vnetctl.files import read_document
from vnetctl.output import Row
from vnetctl.session import Session, each, named, properties, rows

INTERFACE = "org.vnetd1.Network"
LIST = (
    ("Name", "name"),
    ("State", "state"),
    ("Mode", "mode"),
    ("Bridge", "bridge"),
    ("Addresses", "addresses"),
    ("Autostart", "autostart"),
    ("Persistent", "persistent"),
)
SHOW = (
    ("Name", "name"),
    ("UUID", "uuid"),
    ("Mode", "mode"),
    ("State", "state"),
    ("Active", "active"),
    ("Persistent", "persistent"),
    ("Autostart", "autostart"),
    ("Bridge", "bridge"),
    ("Addresses", "addresses"),
    ("Ports", "devices"),
    ("Healed", "healed_count"),
    ("Problems", "problems"),
)
LEASES = (
    ("Expiry time", "expires"),
    ("MAC address", "mac"),
    ("Protocol", "family"),
    ("IP address", "cidr"),
    ("Host name", "hostname"),
    ("Client ID or DUID", "client_id"),
)


async def list_(session: Session, arguments: Namespace) -> None:
    """All networks, or those the options leave."""
    wanted = {key: getattr(arguments, key) for key in ("active", "persistent", "autostart")}
    found = [
        row
        for row in await rows(session, "ListNetworks")
        if all(value is None or bool(row.get(key)) is value for key, value in wanted.items())
    ]
    session.output.listing(LIST, found, only=arguments.only)


async def show(session: Session, arguments: Namespace) -> None:
    """One network: what it is now, or its document."""
    path = await _path(session, arguments.name)
    if arguments.format != "table":
        session.output.document(await describe(session, path, INTERFACE, arguments.format, inactive=arguments.inactive))
        return
    row = await properties(session, path, INTERFACE)
    if session.output.as_json:
        session.output.json(row)
        return
    devices = {port["path"]: port["name"] for port in await rows(session, "ListPorts")} if row["ports"] else {}
    row["devices"] = sorted(devices.get(port, port) for port in row["ports"])
    session.output.labelled(SHOW, row)


async def define(session: Session, arguments: Namespace) -> None:
    """Keep a network's document."""
    await _give(session, arguments, "DefineNetwork", "defined")


async def create(session: Session, arguments: Namespace) -> None:
    """Start a network without keeping its document."""
    await _give(session, arguments, "CreateNetwork", "created")


async def _give(session: Session, arguments: Namespace, member: str, done: str) -> None:
    path = await submit(session, member, arguments)
    network = await named(session, path, INTERFACE)
    session.output.done(f"network {network['name']} {done} from {arguments.file}", network)


async def start(session: Session, arguments: Namespace) -> None:
    """Bring networks up."""
    await _act(session, arguments.names, "Start", "started")


async def stop(session: Session, arguments: Namespace) -> None:
    """Take networks down: those named, or all that are active."""
    if arguments.all:
        targets = [row for row in await rows(session, "ListNetworks") if row["active"]]
        await each(session, targets, lambda row: _call(session, row, "Stop"), "network {name} stopped")
    else:
        await _act(session, arguments.names, "Stop", "stopped")


async def undefine(session: Session, arguments: Namespace) -> None:
    """Forget networks' documents."""
    await _act(session, arguments.names, "Undefine", "undefined")


async def _act(session: Session, names: list[str], member: str, done: str) -> None:
    async def one(name: str) -> Row:
        network = await named(session, await _path(session, name), INTERFACE)
        return await _call(session, network, member)

    await each(session, names, one, f"network {{name}} {done}")


async def _call(session: Session, network: dict[str, Any], member: str) -> Row:
    await session.daemon.call(network["path"], INTERFACE, member)
    return {key: network[key] for key in ("name", "uuid", "path")}


async def autostart(session: Session, arguments: Namespace) -> None:
    """Whether a network starts with the host."""
    path = await _path(session, arguments.name)
    await session.daemon.set(path, INTERFACE, "Autostart", arguments.enable)
    network = await named(session, path, INTERFACE)
    how = "starts with the host" if arguments.enable else "does not start with the host"
    session.output.done(f"network {network['name']} {how}", {**network, "autostart": arguments.enable})


async def edit(session: Session, arguments: Namespace) -> None:
    """Change a network's document in an editor."""
    path = await _path(session, arguments.name)
    await edit_definition(session, path, INTERFACE, "DefineNetwork", arguments.format, inactive=True)


async def update(session: Session, arguments: Namespace) -> None:
    """Change one section, as libvirt's net-update does."""
    from vnetctl.connection import options

    path = await _path(session, arguments.name)
    text = arguments.element
    element = text if text.lstrip().startswith("<") else read_document(text)
    given = {"live": arguments.live or None, "config": arguments.config or None, "parent_index": arguments.parent_index}
    command = "add-last" if arguments.command == "add" else arguments.command
    await session.daemon.call(
        path, INTERFACE, "Update", "sssa{sv}", command, arguments.section, element, options(given)
    )
    network = await named(session, path, INTERFACE)
    session.output.done(f"network {network['name']} updated: {command} {arguments.section}", network)


async def leases(session: Session, arguments: Namespace) -> None:
    """Addresses that guests have from DHCP, by MAC address."""
    path = await _path(session, arguments.name)
    found: list[dict[str, Any]] = await session.daemon.call(path, INTERFACE, "GetLeases", "a{sv}", {})
    if arguments.mac is not None:
        found = [lease for lease in found if lease["mac"] == arguments.mac]
    found.sort(key=lambda lease: (lease["mac"], lease["address"]))
    if session.output.as_json:
        session.output.json(found)
    else:
        session.output.table(LEASES, [_lease(lease) for lease in found])


def _lease(lease: dict[str, Any]) -> Row:
    expiry = lease["expiry"]
    expires = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(expiry)) if expiry else "never"
    return {**lease, "expires": expires, "cidr": f"{lease['address']}/{lease['prefix']}"}


async def plan(session: Session, arguments: Namespace) -> None:
    """What defining and starting a document would do."""
    text: str = await session.daemon.manager("Plan", "sa{sv}", read_document(arguments.file), lenient(arguments))
    planned = json.loads(text)
    if session.output.as_json:
        session.output.json(planned)
        return
    steps = [{"number": number, **step} for number, step in enumerate(planned["steps"], 1)]
    if steps:
        session.output.table(
            (("Step", "number"), ("Phase", "phase"), ("What", "what"), ("Operation", "operation")), steps
        )
    else:
        session.output.line("nothing to do: the host is as the document says")
    session.output.line(f"guests disturbed: {'yes' if planned.get('disturbs_guests') else 'no'}")


async def _path(session: Session, name: str) -> str:
    return str(await session.daemon.manager("GetNetwork", "s", name))
