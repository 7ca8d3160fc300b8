"""``vnetctl import-libvirt``: what libvirt keeps becomes vnetd's, as far as that goes, and is left as it is there."""

from argparse import Namespace
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vnetctl import libvirt_files
from vnetctl.errors import CommandError
from vnetctl.grammar import argument, flag, verb
from vnetctl.libvirt_files import Document
from vnetctl.objects import FILTER, NETWORK
from vnetctl.session import Session, rows

if TYPE_CHECKING:
    from vnetd.model.filter import Filter
    from vnetd.model.network import Network

IN_USE, UNSUPPORTED = "org.vnetd1.Error.InUse", "org.vnetd1.Error.Unsupported"


@dataclass(slots=True)
class Outcome:
    """What became of one definition: ``taken``, ``kept`` (vnetd has one already) or ``refused``, and what to know."""

    kind: str
    name: str
    result: str = "taken"
    notes: list[str] = field(default_factory=list)
    autostart: bool = False
    leases: int = 0

    def refuse(self, why: str) -> None:
        """It cannot be taken."""
        self.result = "refused"
        self.notes.append(why)


@dataclass(frozen=True, slots=True)
class Import:
    """One run: from below ``root``, into the daemon unless it is ``dry``."""

    session: Session
    root: Path
    dry: bool


async def run(session: Session, arguments: Namespace) -> None:
    """Take all that can be taken and say what became of each. Raises ``CommandError`` if something was refused."""
    importing = Import(session, Path(arguments.directory), arguments.dry_run)
    if not libvirt_files.has_files(importing.root):
        raise CommandError(f"libvirt keeps no networks or filters below {importing.root}")
    outcomes = [*await _filters(importing), *await _networks(importing)]
    _show(importing, outcomes)
    if refused := [outcome for outcome in outcomes if outcome.result == "refused"]:
        raise CommandError(f"{len(refused)} of {len(outcomes)} could not be taken from libvirt: see above")


def _show(importing: Import, outcomes: Sequence[Outcome]) -> None:
    output = importing.session.output
    if output.as_json:
        output.json([{name: getattr(one, name) for name in one.__slots__} for one in outcomes])
        return
    for one in outcomes:
        extras = [
            *(["starts with the host"] if one.autostart else []),
            *([f"leases: {one.leases}"] if one.leases else []),
        ]
        output.line(f"{one.kind} {one.name}: {', '.join([_done(one, importing.dry), *extras])}")
        for note in one.notes:
            output.line(f"  {note}")


def _done(one: Outcome, dry: bool) -> str:
    if one.result == "taken":
        return "would be taken" if dry else "taken"
    return "not taken" if one.result == "refused" else "kept as vnetd has it"


async def _filters(importing: Import) -> list[Outcome]:
    from vnetd.xmlcodec.documents import parse_filter

    known = {row["name"]: row["path"] for row in await rows(importing.session, "ListFilters")}
    outcomes, parsed = [], []
    for document in libvirt_files.filters(importing.root):
        outcome, value = _read(document, "filter", parse_filter)
        outcomes.append(outcome)
        if value is not None:
            parsed.append((document, value, outcome))
    for document, value, outcome in _referenced_first(parsed):
        if value.name in known:
            await _compare(importing, value, known[value.name], outcome)
        elif not importing.dry:
            await _define(importing, "DefineFilter", document, outcome)
    return outcomes


def _referenced_first(
    parsed: "Sequence[tuple[Document, Filter, Outcome]]",
) -> "Iterator[tuple[Document, Filter, Outcome]]":
    """A filter that refers to others after those; one that refers to itself in the end comes last, and is refused."""
    waiting = list(parsed)
    while waiting:
        names = {value.name for _, value, _ in waiting}
        ready = [one for one in waiting if not (_references(one[1]) & names) - {one[1].name}] or waiting
        yield from ready
        waiting = [one for one in waiting if one not in ready]


def _references(value: "Filter") -> set[str]:
    from vnetd.model.filter import Reference

    return {entry.filter for entry in value.entries if isinstance(entry, Reference)}


async def _compare(importing: Import, value: "Filter", path: str, outcome: Outcome) -> None:
    from vnetd.xmlcodec.documents import parse_filter

    text = await FILTER.describe(importing.session, path, "json")
    outcome.result = "kept"
    if parse_filter(text).value.model_copy(update={"uuid": value.uuid}) != value:
        outcome.notes.append("libvirt's says something else: 'vnetctl filter edit' changes vnetd's")


async def _networks(importing: Import) -> list[Outcome]:
    from vnetd.xmlcodec.documents import parse_network

    known = {row["name"]: row["uuid"] for row in await rows(importing.session, "ListNetworks")}
    outcomes = []
    for document in libvirt_files.networks(importing.root):
        outcome, value = _read(document, "network", parse_network)
        outcomes.append(outcome)
        if value is None:
            continue
        if value.name not in known:
            await _network(importing, document, value, outcome)
        elif value.uuid is None or known[value.name] == str(value.uuid):
            outcome.result = "kept"
        else:
            outcome.refuse(
                f"vnetd has another network of this name: 'vnetctl network undefine {value.name}' makes room for it"
            )
    return outcomes


def _read(document: Document, kind: str, parser: Any) -> tuple[Outcome, Any]:
    """The value in a document, None if there is none; what was dropped from it is noted."""
    from vnetd.model.errors import VnetError

    outcome = Outcome(kind, document.path.stem)
    if document.problem:
        outcome.refuse(document.problem)
        return outcome, None
    try:
        parsed = parser(document.text, lenient=True)
    except VnetError as error:
        outcome.refuse(str(error))
        return outcome, None
    outcome.name = parsed.value.name
    outcome.notes += parsed.warnings
    return outcome, parsed.value


async def _network(importing: Import, document: Document, value: "Network", outcome: Outcome) -> None:
    in_the_way = await _hindrance(importing, document, outcome)
    if outcome.result == "refused":
        return
    outcome.autostart = libvirt_files.starts_with_host(importing.root, document.path) and not in_the_way
    given = _leases(importing, value, outcome)
    outcome.leases = len(given)
    if importing.dry:
        return
    path = await _define(importing, "DefineNetwork", document, outcome)
    if path is None:
        outcome.autostart, outcome.leases = False, 0
        return
    if outcome.autostart:
        await importing.session.daemon.set(path, NETWORK.interface, "Autostart", True)
    if given:
        await _give(importing, path, given, outcome)


async def _hindrance(importing: Import, document: Document, outcome: Outcome) -> bool:
    """Whether something on this host would keep the network from starting, which is noted."""
    from vnetctl.connection import options

    if libvirt_files.runs(importing.root, document.path):
        outcome.notes.append(
            f"libvirt runs it now: 'virsh net-destroy {outcome.name}' and 'virsh net-autostart --disable "
            f"{outcome.name}' make room; then 'vnetctl network start {outcome.name}', and 'autostart' likewise"
        )
        return True
    try:
        await importing.session.daemon.manager("Plan", "sa{sv}", document.text, options({"lenient": True}))
    except CommandError as error:
        if error.wire not in {IN_USE, UNSUPPORTED}:
            outcome.refuse(str(error))
        else:
            outcome.notes.append(f"it cannot start here as things are: {error}")
        return True
    return False


def _leases(importing: Import, value: "Network", outcome: Outcome) -> list[dict[str, Any]]:
    try:
        return libvirt_files.leases(importing.root, value.bridge.name or "")
    except CommandError as error:
        outcome.notes.append(f"its leases were not taken: {error}")
        return []


async def _define(importing: Import, member: str, document: Document, outcome: Outcome) -> str | None:
    from vnetctl.connection import options

    try:
        given = options({"lenient": True})
        return str(await importing.session.daemon.manager(member, "sa{sv}", document.text, given))
    except CommandError as error:
        outcome.refuse(str(error))
        return None


async def _give(importing: Import, path: str, given: list[dict[str, Any]], outcome: Outcome) -> None:
    """Each lease by itself if not all make sense to the daemon, so that one does not spoil the others."""
    if not await _given(importing, path, given):
        outcome.leases = 0
        for lease in given:
            if reason := await _reason_against(importing, path, lease):
                outcome.notes.append(f"lease of {lease['address']} not taken: {reason}")
            else:
                outcome.leases += 1


async def _given(importing: Import, path: str, given: list[dict[str, Any]]) -> bool:
    try:
        await _set_leases(importing, path, given)
    except CommandError:
        return False
    return True


async def _reason_against(importing: Import, path: str, lease: dict[str, Any]) -> str:
    try:
        await _set_leases(importing, path, [lease])
    except CommandError as error:
        return str(error)
    return ""


async def _set_leases(importing: Import, path: str, given: list[dict[str, Any]]) -> None:
    from dbus_next.signature import Variant

    from vnetctl.connection import options

    typed = [{**options(lease), "expiry": Variant("t", lease["expiry"])} for lease in given]
    await importing.session.daemon.call(path, NETWORK.interface, "SetLeases", "aa{sv}a{sv}", typed, {})


IMPORT = verb(
    "import-libvirt",
    run,
    "take over networks, filters and leases of libvirt",
    argument(
        "directory", metavar="DIR", nargs="?", default="/", help="root of the system libvirt keeps its files on (/)"
    ),
    flag("--dry-run", "say what would be taken, and take nothing"),
)
