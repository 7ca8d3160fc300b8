"""What the commands for networks and filters share: documents to and from the daemon."""

from argparse import Namespace
from typing import Any

from vnetctl.files import read_document
from vnetctl.session import Session, named


async def describe(session: Session, path: str, interface: str, format: str, *, inactive: bool = False) -> str:
    """The document of an object in ``format``, ``xml`` or ``json``; ``inactive``: the one that is kept."""
    from vnetctl.connection import options

    given = options({"inactive": True if inactive else None})
    return str(await session.daemon.call(path, interface, "Describe", "sa{sv}", format, given))


async def submit(session: Session, member: str, arguments: Namespace) -> str:
    """Give the document in ``arguments.file`` to a method of the manager; the path of its object."""
    return str(await session.daemon.manager(member, "sa{sv}", read_document(arguments.file), lenient(arguments)))


def lenient(arguments: Namespace) -> dict[str, Any]:
    """The option of calls that take a document."""
    from vnetctl.connection import options

    return options({"lenient": True if arguments.lenient else None})


async def edit_definition(
    session: Session, path: str, interface: str, member: str, format: str, *, inactive: bool = False
) -> None:
    """Let people change an object's document and give it to ``member`` of the manager."""
    from vnetctl.edit import edit

    found = await named(session, path, interface)
    document = await describe(session, path, interface, format, inactive=inactive)

    async def define(text: str) -> None:
        await session.daemon.manager(member, "sa{sv}", text, {})

    changed = await edit(document, f".{format}", define)
    noun = interface.rpartition(".")[2].lower()
    how = "changed" if changed else "left as it was"
    session.output.done(f"{noun} {found['name']} {how}", {**found, "changed": changed})
