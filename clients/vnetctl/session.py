"""Runs a command that talks to the daemon, and what those commands share."""

from argparse import Namespace
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from vnetctl.errors import CommandError, NoAnswer
from vnetctl.output import Output, Row

if TYPE_CHECKING:
    from vnetctl.connection import Daemon

T = TypeVar("T")

AT_ONCE = 64
"""Calls under way together. The daemon makes one deletion of many; the library's writer fails with thousands."""


@dataclass(frozen=True)
class Session:
    """The daemon, and where results go."""

    daemon: "Daemon"
    output: Output


Online = Callable[[Session, Namespace], Awaitable[None]]
Command = Callable[[Output, Namespace], None]


def online(command: Online, *, until_interrupted: bool = False) -> Command:
    """``command`` as one that connects first; ``until_interrupted``: an interrupt is how it is meant to end."""

    def run(output: Output, arguments: Namespace) -> None:
        import asyncio

        try:
            asyncio.run(_connected(command, output, arguments))
        except KeyboardInterrupt:
            if not until_interrupted:
                raise

    return run


async def _connected(command: Online, output: Output, arguments: Namespace) -> None:
    from vnetctl.connection import connected

    async with connected(arguments.bus) as daemon:
        await command(Session(daemon, output), arguments)


async def each(session: Session, items: Sequence[T], act: Callable[[T], Awaitable[Row]], sentence: str) -> None:
    """Act on all of ``items`` together and report what was done; ``sentence`` is for people, with a row's keys.

    Raises what failed, as a group, after the rest is done.
    """
    import asyncio

    room = asyncio.Semaphore(AT_ONCE)

    async def one(item: T) -> Row:
        async with room:
            return await act(item)

    results = await asyncio.gather(*(one(item) for item in items), return_exceptions=True)
    done = [result for result in results if not isinstance(result, BaseException)]
    if session.output.as_json:
        session.output.json(done)
    else:
        for row in done:
            session.output.line(sentence.format(**row))
    _raise([result for result in results if isinstance(result, BaseException)])


def _raise(failed: Sequence[BaseException]) -> None:
    """One reason is enough when nobody answers: it is the same for all."""
    for error in failed:
        if isinstance(error, NoAnswer) or not isinstance(error, CommandError):
            raise error
    if failed:
        raise BaseExceptionGroup("not all could be done", failed)


async def rows(session: Session, member: str) -> list[dict[str, Any]]:
    """What a ``List…`` call returns, by name whatever the case."""
    listed: list[dict[str, Any]] = await session.daemon.manager(member, "a{sv}", {})
    return by_name(listed)


def by_name(listed: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """In the order of names whatever the case; equal ones by uuid."""
    return sorted(listed, key=lambda row: (str(row.get("name", "")).casefold(), str(row.get("uuid", ""))))


def snake(name: str) -> str:
    """A property's D-Bus name as the key the lists use: ``HealedCount`` is ``healed_count``, ``UUID`` ``uuid``."""
    if name.isupper():
        return name.lower()
    return "".join("_" + char.lower() if char.isupper() else char for char in name).lstrip("_")


async def properties(session: Session, path: str, interface: str) -> dict[str, Any]:
    """All properties of an object under the keys the lists use, and its path."""
    found = await session.daemon.get_all(path, interface)
    return {**{snake(name): value for name, value in found.items()}, "path": path}


async def named(session: Session, path: str, interface: str) -> dict[str, Any]:
    """Name, uuid and path of an object."""
    found = await properties(session, path, interface)
    return {"name": found["name"], "uuid": found["uuid"], "path": path}


def by_parameter(given: Sequence[tuple[str, str]] | None) -> dict[str, list[str]]:
    """Values by name; a name that is given again makes a list."""
    values: dict[str, list[str]] = {}
    for name, value in given or ():
        values.setdefault(name, []).append(value)
    return values
