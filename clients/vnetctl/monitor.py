"""``vnetctl monitor``: what happens, as it happens, a line each."""

from argparse import Namespace
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from vnetctl.errors import NoAnswer
from vnetctl.grammar import verb
from vnetctl.session import Session, rows, snake
from vnetctl.text import printable, shown

if TYPE_CHECKING:
    from dbus_next.message import Message

ROOT = "/org/vnetd1"
LISTS = ("ListNetworks", "ListSwitches", "ListPorts", "ListFilters", "ListBindings")
RULES = (
    "type='signal',sender='org.vnetd1'",
    "type='signal',sender='org.freedesktop.DBus',member='NameOwnerChanged',arg0='org.vnetd1'",
)


@dataclass(frozen=True)
class Happening:
    """One signal: when, what, to which object (its D-Bus path and name), and more."""

    time: datetime
    kind: str
    path: str
    name: str
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def object(self) -> str:
        """``network``, ``filter``, ``port``, ``binding`` or, for the daemon itself, ``vnetd``."""
        parts = self.path.split("/")
        return parts[3] if len(parts) > 4 else "vnetd"

    def line(self) -> str:
        """For people."""
        details = "  ".join(f"{printable(name)}={shown(value)}" for name, value in self.details.items())
        stamp = self.time.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
        return f"{stamp}  {self.kind:<13}  {self.object} {self.name}  {details}".rstrip()

    def facts(self) -> dict[str, Any]:
        """For programs."""
        return {
            "time": self.time.isoformat(timespec="milliseconds"),
            "kind": self.kind,
            "object": self.object,
            "name": self.name,
            "path": self.path,
            "details": self.details,
        }


class Reader:
    """Understands vnetd's signals. Remembers names, because most signals only have a path."""

    def __init__(self, names: dict[str, str]) -> None:
        self._names = names

    def read(self, member: str, path: str, body: list[Any], now: datetime) -> Happening | None:
        """The happening a signal tells of; ``body`` without variants. None if it is not known."""
        match member, body:
            case "Event", [str(kind), str(about), str(name), dict(details)]:
                return Happening(now, kind, about, name, details)
            case "Healed", [what, dict(details)]:
                return self._about(now, "healed", path, {"what": what, **details})
            case "LeaseAdded", [dict(lease)]:
                return self._about(now, "lease-added", path, lease)
            case "LeaseRemoved", [dict(lease)]:
                return self._about(now, "lease-removed", path, lease)
            case "PropertiesChanged", [_, dict(changed), list(_)]:
                return self._about(now, "changed", path, _keys(changed))
            case "InterfacesAdded", [str(about), dict(interfaces)]:
                return self._added(now, about, interfaces)
            case "InterfacesRemoved", [str(about), list(_)]:
                removed = self._about(now, "removed", about, {})
                self._names.pop(about, None)
                return removed
        return None

    def _added(self, now: datetime, path: str, interfaces: dict[str, dict[str, Any]]) -> Happening:
        found = next((values for name, values in interfaces.items() if name.startswith("org.vnetd1.")), {})
        self._names[path] = str(found.get("Name") or found.get("Device") or "")
        return self._about(now, "added", path, {})

    def _about(self, now: datetime, kind: str, path: str, details: dict[str, Any]) -> Happening:
        return Happening(now, kind, path, self._names.get(path) or path.rpartition("/")[2], details)


def _keys(changed: dict[str, Any]) -> dict[str, Any]:
    return {snake(name): value for name, value in changed.items()}


async def monitor(session: Session, _: Namespace) -> None:
    """Print every signal until interrupted. Raises ``NoAnswer`` when the daemon goes away."""
    import asyncio

    names: dict[str, str] = {}
    gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    watch = _Watch(session, Reader(names), gone)
    session.daemon.on_signal(watch.receive)
    for rule in RULES:
        await session.daemon.call_bus("AddMatch", "s", rule)
    for member in LISTS:
        names.update({row["path"]: row["name"] for row in await rows(session, member)})
    watch.owner = await session.daemon.call_bus("GetNameOwner", "s", "org.vnetd1")
    watch.show(Happening(datetime.now().astimezone(), "watching", ROOT, session.daemon.label))
    disconnected = asyncio.ensure_future(session.daemon.disconnected())
    done, _pending = await asyncio.wait({gone, disconnected}, return_when=asyncio.FIRST_COMPLETED)
    disconnected.cancel()
    if gone in done:
        gone.result()
    raise NoAnswer(f"the {session.daemon.label} went away")


class _Watch:
    """Prints the daemon's own signals; any client of the bus could send some that look alike."""

    def __init__(self, session: Session, reader: Reader, gone: Any) -> None:
        self.owner = ""
        self._session = session
        self._reader = reader
        self._gone = gone

    def receive(self, message: "Message") -> None:
        """Take one signal. What fails here ends the command, as the library would only log it."""
        from vnetctl.connection import BUS, plain

        body = [plain(value) for value in message.body]
        try:
            if message.sender == BUS and message.member == "NameOwnerChanged":
                self._owner_changed(*body)
            elif self.owner and message.sender == self.owner:
                self.show(self._reader.read(message.member, message.path, body, datetime.now().astimezone()))
        except Exception as error:
            if not self._gone.done():
                self._gone.set_exception(error)

    def _owner_changed(self, name: str, _old: str, new: str) -> None:
        if name == "org.vnetd1" and not new and self.owner:
            raise NoAnswer("vnetd went away")

    def show(self, happening: Happening | None) -> None:
        """Print a happening, if it is one."""
        if happening is None:
            return
        if self._session.output.as_json:
            self._session.output.json_line(happening.facts())
        else:
            self._session.output.line(happening.line())


MONITOR = verb("monitor", monitor, "show what happens, as it happens", until_interrupted=True)
