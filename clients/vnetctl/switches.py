"""``vnetctl switch …``."""

from argparse import Namespace
from typing import Any

from vnetctl.documents import describe
from vnetctl.files import read_document
from vnetctl.output import Row
from vnetctl.session import Session, each, named, properties, rows

INTERFACE = "org.vnetd1.Switch"
LIST = (
    ("Name", "name"),
    ("State", "state"),
    ("Bridge", "bridge"),
    ("Uplinks", "uplinks"),
    ("Autostart", "autostart"),
    ("Persistent", "persistent"),
)
SHOW = (
    ("Name", "name"),
    ("UUID", "uuid"),
    ("State", "state"),
    ("Active", "active"),
    ("Persistent", "persistent"),
    ("Autostart", "autostart"),
    ("Unconfirmed", "unconfirmed"),
    ("Bridge", "bridge"),
    ("Uplinks", "uplinks"),
    ("Ports", "devices"),
    ("Healed", "healed_count"),
    ("Problems", "problems"),
)


async def list_(session: Session, arguments: Namespace) -> None:
    """All switches."""
    session.output.listing(LIST, await rows(session, "ListSwitches"), only=arguments.only)


async def show(session: Session, arguments: Namespace) -> None:
    """One switch: what it is now, or its document."""
    path = await _path(session, arguments.name)
    if arguments.format != "table":
        session.output.document(await describe(session, path, INTERFACE, "json", inactive=arguments.inactive))
        return
    row = await properties(session, path, INTERFACE)
    if session.output.as_json:
        session.output.json(row)
        return
    devices = {port["path"]: port["name"] for port in await rows(session, "ListPorts")} if row["ports"] else {}
    row["devices"] = sorted(devices.get(port, port) for port in row["ports"])
    session.output.labelled(SHOW, row)


async def define(session: Session, arguments: Namespace) -> None:
    """Keep a switch's document; change one that runs."""
    await _give(session, arguments, "DefineSwitch", "defined")


async def create(session: Session, arguments: Namespace) -> None:
    """Start a switch without keeping its document."""
    await _give(session, arguments, "CreateSwitch", "created")


async def _give(session: Session, arguments: Namespace, member: str, done: str) -> None:
    from vnetctl.connection import options

    given = options({"lenient": True if arguments.lenient else None, "confirm": arguments.confirm})
    path = str(await session.daemon.manager(member, "sa{sv}", read_document(arguments.file), given))
    switch = await named(session, path, INTERFACE)
    session.output.done(f"switch {switch['name']} {done} from {arguments.file}{_until(arguments)}", switch)


async def start(session: Session, arguments: Namespace) -> None:
    """Bring switches up."""
    from vnetctl.connection import options

    given = options({"confirm": arguments.confirm})

    async def one(name: str) -> Row:
        switch = await named(session, await _path(session, name), INTERFACE)
        await session.daemon.call(switch["path"], INTERFACE, "Start", "a{sv}", given)
        return switch

    await each(session, arguments.names, one, f"switch {{name}} started{_until(arguments)}")


async def stop(session: Session, arguments: Namespace) -> None:
    """Take switches down."""
    await _act(session, arguments.names, "Stop", "stopped")


async def undefine(session: Session, arguments: Namespace) -> None:
    """Forget switches' documents."""
    await _act(session, arguments.names, "Undefine", "undefined")


async def confirm(session: Session, arguments: Namespace) -> None:
    """Keep the changes that wait for it."""
    await _act(session, arguments.names, "Confirm", "confirmed")


async def autostart(session: Session, arguments: Namespace) -> None:
    """Whether a switch starts with the host."""
    path = await _path(session, arguments.name)
    await session.daemon.set(path, INTERFACE, "Autostart", arguments.enable)
    switch = await named(session, path, INTERFACE)
    how = "starts with the host" if arguments.enable else "does not start with the host"
    session.output.done(f"switch {switch['name']} {how}", {**switch, "autostart": arguments.enable})


async def edit(session: Session, arguments: Namespace) -> None:
    """Change a switch's document in an editor."""
    from vnetctl.connection import options
    from vnetctl.edit import edit

    path = await _path(session, arguments.name)
    switch = await named(session, path, INTERFACE)
    document = await describe(session, path, INTERFACE, "json", inactive=True)

    async def submit(text: str) -> None:
        await session.daemon.manager("DefineSwitch", "sa{sv}", text, options({"confirm": arguments.confirm}))

    changed = await edit(document, ".json", submit)
    how = f"changed{_until(arguments)}" if changed else "left as it was"
    session.output.done(f"switch {switch['name']} {how}", {**switch, "changed": changed})


def _until(arguments: Namespace) -> str:
    """What people must not forget, if there is something."""
    seconds = arguments.confirm
    return f"; it goes back in {seconds} s unless you confirm it (vnetctl switch confirm)" if seconds else ""


async def _act(session: Session, names: list[str], member: str, done: str) -> None:
    async def one(name: str) -> Row:
        switch: dict[str, Any] = await named(session, await _path(session, name), INTERFACE)
        await session.daemon.call(switch["path"], INTERFACE, member)
        return switch

    await each(session, names, one, f"switch {{name}} {done}")


async def _path(session: Session, name: str) -> str:
    return str(await session.daemon.manager("GetSwitch", "s", name))
