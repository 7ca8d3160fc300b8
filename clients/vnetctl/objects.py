"""One kind of the daemon's objects on the command line: what its commands share."""

import json
from argparse import Namespace
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from vnetctl.files import read_document
from vnetctl.output import Column, Row
from vnetctl.session import Online, Session, each, named, properties, rows

if TYPE_CHECKING:
    from dbus_next.signature import Variant


STEPS = (("Step", "number"), ("Phase", "phase"), ("What", "what"), ("Operation", "operation"))


class Kind:
    """Objects of one kind, by its D-Bus name, such as ``Network``.

    ``runs``: an object has a form that runs beside the document that is kept.
    """

    def __init__(self, name: str, *, runs: bool = False) -> None:
        self.name = name
        self.noun = name.lower()
        self.interface = f"org.vnetd1.{name}"
        self.runs = runs

    async def path(self, session: Session, ref: str) -> str:
        """The path of one by name or UUID, a port by UUID or device."""
        return str(await session.daemon.manager(f"Get{self.name}", "s", ref))

    async def find(self, session: Session, ref: str) -> dict[str, Any]:
        """Name, uuid and path of one."""
        return await named(session, await self.path(session, ref), self.interface)

    async def describe(self, session: Session, path: str, form: str, *, inactive: bool = False) -> str:
        """The document of one, as ``xml`` or ``json``; ``inactive``: the one that is kept."""
        from vnetctl.connection import options

        given = options({"inactive": True if inactive else None})
        return str(await session.daemon.call(path, self.interface, "Describe", "sa{sv}", form, given))

    def acting(self, member: str, done: str) -> Online:
        """The command that calls ``member`` of each object that is named."""

        async def act(session: Session, arguments: Namespace) -> None:
            await self.call_each(session, arguments.names, member, done)

        return act

    async def call_each(
        self, session: Session, refs: Sequence[str], member: str, done: str, signature: str = "", *body: object
    ) -> None:
        """Call ``member`` of each of these, and say what was ``done``."""

        async def one(ref: str) -> Row:
            found = await self.find(session, ref)
            await session.daemon.call(found["path"], self.interface, member, signature, *body)
            return found

        await each(session, refs, one, f"{self.noun} {{name}} {done}")

    def giving(self, member: str, done: str) -> Online:
        """The command that gives the document in a file to a method of the manager, such as ``Define``."""

        async def give(session: Session, arguments: Namespace) -> None:
            document, given = read_document(arguments.file), options_of(arguments)
            path = await session.daemon.manager(f"{member}{self.name}", "sa{sv}", document, given)
            found = await named(session, path, self.interface)
            what = f"{self.noun} {found['name']} {done} from {arguments.file}{until(arguments)}"
            session.output.done(what, found)

        return give

    async def plan(self, session: Session, arguments: Namespace) -> None:
        """The command that says what defining and starting a document would do."""
        from vnetctl.connection import options

        given = options_of(arguments) | options({"kind": self.noun})
        planned = json.loads(await session.daemon.manager("Plan", "sa{sv}", read_document(arguments.file), given))
        if session.output.as_json:
            session.output.json(planned)
            return
        steps = [{"number": number, **step} for number, step in enumerate(planned["steps"], 1)]
        if steps:
            session.output.table(STEPS, steps)
        else:
            session.output.line("nothing to do: the host is as the document says")
        for whom in ("guests", "host"):
            if (disturbed := planned.get(f"disturbs_{whom}")) is not None:
                session.output.line(f"{whom} disturbed: {'yes' if disturbed else 'no'}")

    def showing(self, columns: Sequence[Column]) -> Online:
        """The command that shows what runs or is kept: what it is now, with the devices on it, or its document."""

        async def show(session: Session, arguments: Namespace) -> None:
            path = await self.path(session, arguments.name)
            if arguments.format != "table":
                text = await self.describe(session, path, arguments.format, inactive=arguments.inactive)
                session.output.document(text)
                return
            row = await properties(session, path, self.interface)
            if session.output.as_json:
                session.output.json(row)
                return
            devices = {port["path"]: port["name"] for port in await rows(session, "ListPorts")} if row["ports"] else {}
            row["devices"] = sorted(devices.get(port, port) for port in row["ports"])
            session.output.labelled(columns, row)

        return show

    async def autostart(self, session: Session, arguments: Namespace) -> None:
        """The command that says whether one starts with the host."""
        path = await self.path(session, arguments.name)
        await session.daemon.set(path, self.interface, "Autostart", arguments.enable)
        found = await named(session, path, self.interface)
        how = "starts with the host" if arguments.enable else "does not start with the host"
        session.output.done(f"{self.noun} {found['name']} {how}", {**found, "autostart": arguments.enable})

    async def edit(self, session: Session, arguments: Namespace) -> None:
        """The command that lets people change a document in an editor."""
        from vnetctl.edit import edit

        found = await self.find(session, arguments.name)
        form = getattr(arguments, "format", "json")
        document = await self.describe(session, found["path"], form, inactive=self.runs)

        async def define(text: str) -> None:
            await session.daemon.manager(f"Define{self.name}", "sa{sv}", text, options_of(arguments))

        changed = await edit(document, f".{form}", define)
        how = f"changed{until(arguments)}" if changed else "left as it was"
        session.output.done(f"{self.noun} {found['name']} {how}", {**found, "changed": changed})


def options_of(arguments: Namespace) -> "dict[str, Variant]":
    """The options of a call that were given on the line, where the command takes them."""
    from vnetctl.connection import options

    lenient, confirm = getattr(arguments, "lenient", False), getattr(arguments, "confirm", None)
    return options({"lenient": lenient or None, "confirm": confirm})


def until(arguments: Namespace) -> str:
    """What people must not forget about a change that is to be confirmed."""
    seconds = getattr(arguments, "confirm", None)
    return f"; it goes back in {seconds} s unless you confirm it (vnetctl switch confirm)" if seconds else ""


NETWORK, SWITCH = Kind("Network", runs=True), Kind("Switch", runs=True)
FILTER, BINDING, PORT = Kind("Filter"), Kind("Binding"), Kind("Port")
