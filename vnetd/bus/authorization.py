"""The one place where callers are authorised.

Every member is listed in ``ACCESS``; what is not listed is refused. Who calls is asked of the bus, never of the
caller. Everybody may read; who may change something is for an ``Authority`` to say.
"""

import asyncio
import grp
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

from vnetd.bus import contracts
from vnetd.model.errors import Denied
from vnetd.service.views import Caller

GROUP = "vnetd"
ROOT = 0
"""The administrator's uid: what belongs to other users is the administrator's to change too."""

log = logging.getLogger(__name__)


class Access(Enum):
    """What a member needs."""

    READ = "read"
    CHANGE = "change"


_READ, _CHANGE = Access.READ, Access.CHANGE

ACCESS: Mapping[str, Mapping[str, Access]] = {
    contracts.MANAGER: {
        "DefineNetwork": _CHANGE,
        "CreateNetwork": _CHANGE,
        "DefineSwitch": _CHANGE,
        "CreateSwitch": _CHANGE,
        "DefineFilter": _CHANGE,
        "GetNetwork": _READ,
        "GetSwitch": _READ,
        "GetFilter": _READ,
        "GetPort": _READ,
        "ListNetworks": _READ,
        "ListSwitches": _READ,
        "ListFilters": _READ,
        "ListPorts": _READ,
        "ListBindings": _READ,
        "Attach": _CHANGE,
        "OpenTap": _CHANGE,
        "BindFilter": _CHANGE,
        # Changes nothing, yet runs a caller's document through the whole codec and planner: seconds of this
        # process's time, for those who could spend it by defining networks anyway.
        "Plan": _CHANGE,
        # These change nothing either, but tell what guests do and what rules other programs have.
        "ExplainFilter": _CHANGE,
        "Examine": _CHANGE,
        "Reconcile": _CHANGE,
    },
    contracts.NETWORK: {
        "Start": _CHANGE,
        "Stop": _CHANGE,
        "Undefine": _CHANGE,
        "Update": _CHANGE,
        "Describe": _READ,
        "GetLeases": _READ,
        "SetLeases": _CHANGE,
    },
    contracts.SWITCH: {
        "Start": _CHANGE,
        "Stop": _CHANGE,
        "Undefine": _CHANGE,
        "Confirm": _CHANGE,
        "Describe": _READ,
    },
    contracts.FILTER: {"Undefine": _CHANGE, "Describe": _READ},
    contracts.PORT: {
        "Detach": _CHANGE,
        "Describe": _READ,
        "Move": _CHANGE,
        "SetFilter": _CHANGE,
        "SetLink": _CHANGE,
        "SetBandwidth": _CHANGE,
        "SetIsolated": _CHANGE,
        "SetPortgroup": _CHANGE,
        "GetAddresses": _READ,
    },
    contracts.BINDING: {"Delete": _CHANGE},
    contracts.PROPERTIES: {"Get": _READ, "GetAll": _READ, "Set": _CHANGE},
    contracts.INTROSPECTABLE: {"Introspect": _READ},
    contracts.PEER: {"Ping": _READ, "GetMachineId": _READ},
    contracts.OBJECT_MANAGER: {"GetManagedObjects": _READ},
}


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who a connection belongs to, in the words of the bus."""

    uid: int
    pid: int
    groups: frozenset[int]


@dataclass(frozen=True, slots=True)
class Request:
    """What somebody wants: the caller's unique name, the member, and whether a person may be asked for a password."""

    sender: str
    interface: str
    member: str
    interactive: bool = False


class Authority(Protocol):
    """Decides who may change something."""

    async def refusal(self, request: Request, credentials: Credentials) -> str | None:
        """None if it is permitted, else what would be needed, for the end of a sentence."""
        ...


class GroupAuthority:
    """Root, and members of one group, may change everything."""

    def __init__(self, group: str = GROUP) -> None:
        self._group = group
        self._gid: int | None = None

    async def refusal(self, request: Request, credentials: Credentials) -> str | None:
        """None for uid 0 and members of the group."""
        if credentials.uid == ROOT or await self._group_id() in credentials.groups:
            return None
        return f"root or membership of group {self._group}"

    async def _group_id(self) -> int | None:
        if self._gid is None:  # in a thread, since the answer may come from a directory service
            self._gid = await asyncio.to_thread(_group_id, self._group)
        return self._gid


def _group_id(name: str) -> int | None:
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return None


class Authorization:
    """Answers for each call whether it may go on, and on whose behalf. ``bus`` identifies the message bus.

    ``ask`` puts a question to the bus (``Connection.ask``). Credentials are kept until the client leaves the bus,
    which never gives a unique name to a second one.
    """

    def __init__(self, ask: Callable[..., Awaitable[Any]], authority: Authority, bus: str = "") -> None:
        self._ask = ask
        self._bus = bus
        self._authority = authority
        self._known: dict[str, asyncio.Task[Credentials]] = {}

    def access(self, interface: str, member: str) -> Access:
        """What the member needs. Raises ``Denied`` if nobody has said so."""
        access = ACCESS.get(interface, {}).get(member)
        if access is None:
            log.error("%s.%s is not in the table of authorised members", interface, member)
            raise Denied(f"nobody may call {interface}.{member}: vnetd has no rule for it; please report this")
        return access

    async def authorise(self, request: Request) -> Caller:
        """Who asks for this change. Raises ``Denied`` if they may not, or if the bus does not say who they are."""
        credentials = await self._credentials(request)
        needed = await self._authority.refusal(request, credentials)
        if needed is not None:
            log.warning(
                "denied %s.%s to uid %d, pid %d (%s)",
                *(request.interface, request.member, credentials.uid, credentials.pid, request.sender),
            )
            raise Denied(f"{_short(request)} needs {needed}, and uid {credentials.uid} has neither")
        return Caller(
            credentials.uid,
            credentials.pid,
            request.sender,
            administrator=credentials.uid == ROOT,
            connection=connection_name(self._bus, request.sender),
            present=lambda: request.sender in self._known,
        )

    def forget(self, sender: str) -> None:
        """The client with this unique name has left the bus."""
        self._known.pop(sender, None)

    async def _credentials(self, request: Request) -> Credentials:
        sender = request.sender
        task = self._known.get(sender)
        if task is None:
            task = self._known[sender] = asyncio.create_task(self._fetch(sender))
        try:
            return await asyncio.shield(task)
        except Exception as error:
            self.forget(sender)
            log.warning("denied %s.%s to %s: %s", request.interface, request.member, sender, error)
            raise Denied(f"{_short(request)} is refused, as the message bus does not say who {sender} is") from error

    async def _fetch(self, sender: str) -> Credentials:
        answer = await self._ask("GetConnectionCredentials", "s", sender)
        plain = {name: variant.value for name, variant in answer.items()}
        return Credentials(plain["UnixUserID"], plain.get("ProcessID", 0), frozenset(plain.get("UnixGroupIDs", ())))


def connection_name(bus: str, sender: str) -> str:
    """What names a connection among those of all times: unique names begin anew with every bus."""
    return f"{bus}/{sender}" if bus else ""


def _short(request: Request) -> str:
    return f"{request.interface.rpartition('.')[2]}.{request.member}"
