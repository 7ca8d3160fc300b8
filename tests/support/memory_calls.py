"""Calls of a daemon to the host in memory, and what a test does to them: refuses some, or ends the daemon at one."""

import errno
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import count
from typing import Any

from vnetd.model.errors import HostError

READING = {
    "view",
    "view_with",
    "link",
    "links",
    "links_named",
    "host_routes",
    "sysctls",
    "table",
    "chain",
    "set",
    "observe",
    "leases",
    "upstream",
}
READING |= {"traffic", "neighbours", "adopt", "load", "broken", "installed"}
READING |= {"possessions", "port_vlans", "settings"}
READING |= {"held", "of", "at", "serves", "functions"}


@dataclass(frozen=True, slots=True)
class Call:
    """A verb somebody called: ``kernel.CreateBridge``, ``nft.commit``, ``store.save`` …, and what with."""

    verb: str
    arguments: tuple[Any, ...]

    @property
    def changes(self) -> bool:
        """Whether it asks for a change."""
        return self.verb.partition(".")[2] not in READING

    @property
    def words(self) -> str:
        """What a failure of it is about, for the error."""
        first = self.arguments[0] if self.arguments else ""
        return str(
            getattr(first, "name", None) or getattr(first, "network", None) or "/".join(map(str, self.arguments[:2]))
        )


Hook = Callable[[Call], Awaitable[None]]


async def nothing(_: Call) -> None:
    """What happens before a call unless a test has other plans."""


class Refusal:
    """A ``before`` that fails calls: those ``chosen`` says, the first ``times`` of them."""

    def __init__(self, chosen: Callable[[Call], bool], times: int = 1, code: int = errno.EIO) -> None:
        self.refused: list[Call] = []
        self._chosen = chosen
        self._times = times
        self._code = code

    async def __call__(self, call: Call) -> None:
        if len(self.refused) < self._times and self._chosen(call):
            self.refused.append(call)
            raise HostError(call.verb, call.words, self._code)


def nth(number: int) -> Callable[[Call], bool]:
    """The call of this number from now on, not counting what is listed in the background after a change."""
    left = count(number, -1)
    return lambda call: call.verb not in {"nft.chain", "nft.table"} and next(left) == 0


def crash(number: int) -> Hook:
    """A ``before`` that is the end of the daemon at the call of this number: no call acts any more."""
    chosen, over = nth(number), False

    async def end(call: Call) -> None:
        nonlocal over
        over = over or chosen(call)
        if over:
            raise HostError("act", "on anything", "the daemon was killed")

    return end


def verb(*names: str) -> Callable[[Call], bool]:
    """Calls of these verbs."""
    return lambda call: call.verb in names
