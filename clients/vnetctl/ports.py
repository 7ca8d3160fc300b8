"""``vnetctl port …``."""

import os
from argparse import Namespace
from collections.abc import Mapping
from typing import Any

from vnetctl.documents import describe
from vnetctl.errors import CommandError, Exit
from vnetctl.output import Row
from vnetctl.session import Session, by_parameter, each, properties, rows

INTERFACE = "org.vnetd1.Port"
LIST = (
    ("Device", "device"),
    ("Network", "network_name"),
    ("Kind", "kind"),
    ("State", "state"),
    ("MAC address", "mac"),
    ("Filter", "filter"),
    ("UUID", "uuid"),
)
ADDRESSES = (("Address", "address"), ("Family", "family"), ("Source", "source"), ("Age", "age"))
SHOW = (
    *LIST,
    ("Port group", "port_group"),
    ("Isolated", "isolated"),
    ("Bandwidth (KiB/s)", "bandwidth"),
    ("Owner (uid)", "owner"),
    ("Lifetime", "lifetime"),
    ("Link up", "link_up"),
    ("Problems", "problems"),
)


async def list_(session: Session, arguments: Namespace) -> None:
    """All ports, or those of one network."""
    found = await rows(session, "ListPorts")
    if arguments.network is not None:
        network = await session.daemon.manager("GetNetwork", "s", arguments.network)
        found = [row for row in found if row["network"] == network]
    session.output.listing(LIST, found, only=arguments.only)


async def show(session: Session, arguments: Namespace) -> None:
    """One port: what it is now, or its document."""
    path = await session.daemon.manager("GetPort", "s", arguments.port)
    if arguments.format != "table":
        session.output.document(await describe(session, path, INTERFACE, arguments.format))
        return
    session.output.labelled(SHOW, await properties(session, path, INTERFACE))


async def attach(session: Session, arguments: Namespace) -> None:
    """Attach a guest to a network."""
    from vnetctl.connection import options

    path, result = await session.daemon.manager(
        "Attach", "sa{sv}", arguments.network, options(specification(arguments))
    )
    port = await properties(session, path, INTERFACE)
    session.output.done(
        f"port {port['device']} attached to network {port['network_name']} ({port['uuid']})", {**port, "result": result}
    )


async def link(session: Session, arguments: Namespace) -> None:
    """Plug the guest's cable in or out."""
    path = await session.daemon.manager("GetPort", "s", arguments.port)
    await session.daemon.call(path, INTERFACE, "SetLink", "b", arguments.state == "up")
    port = await properties(session, path, INTERFACE)
    session.output.done(f"link of port {port['device']} set {arguments.state}", port)


async def addresses(session: Session, arguments: Namespace) -> None:
    """A guest's addresses."""
    path = await session.daemon.manager("GetPort", "s", arguments.port)
    session.output.listing(
        ADDRESSES, await session.daemon.call(path, INTERFACE, "GetAddresses", "a{sv}", {}), only=None
    )


async def move(session: Session, arguments: Namespace) -> None:
    """Plug a port into another network, or give it another port group."""
    if arguments.network is None and arguments.portgroup is None:
        raise CommandError("name a network, --portgroup, or both", Exit.USAGE)
    path = await session.daemon.manager("GetPort", "s", arguments.port)
    if arguments.network is not None:
        await session.daemon.call(path, INTERFACE, "Move", "s", arguments.network)
    if arguments.portgroup is not None:
        await session.daemon.call(path, INTERFACE, "SetPortgroup", "s", arguments.portgroup)
    port = await properties(session, path, INTERFACE)
    session.output.done(f"port {port['device']} is in network {port['network_name']}", port)


async def limit(session: Session, arguments: Namespace) -> None:
    """Limit a port's bandwidth."""
    from vnetctl.connection import options

    limits = _limits(arguments)
    if not limits:
        raise CommandError("nothing is to be limited: give --inbound, --outbound or both", Exit.USAGE)
    path = await session.daemon.manager("GetPort", "s", arguments.port)
    await session.daemon.call(path, INTERFACE, "SetBandwidth", "a{sv}", options(limits))
    port = await properties(session, path, INTERFACE)
    session.output.done(f"bandwidth of port {port['device']} changed", port)


async def isolate(session: Session, arguments: Namespace) -> None:
    """Keep a port from other isolated ones, or no longer."""
    path = await session.daemon.manager("GetPort", "s", arguments.port)
    await session.daemon.call(path, INTERFACE, "SetIsolated", "b", arguments.state == "on")
    port = await properties(session, path, INTERFACE)
    session.output.done(f"port {port['device']} is {'' if port['isolated'] else 'not '}isolated", port)


async def detach(session: Session, arguments: Namespace) -> None:
    """End attachments."""

    async def one(name: str) -> Row:
        path = await session.daemon.manager("GetPort", "s", name)
        port = await properties(session, path, INTERFACE)
        await session.daemon.call(path, INTERFACE, "Detach")
        return port

    await each(session, arguments.ports, one, "port {device} detached from network {network_name}")


def specification(arguments: Namespace) -> dict[str, Any]:
    """The spec of ``Attach``, without types. Raises ``CommandError`` for what does not go together."""
    from vnetctl.connection import UInt

    kind, device = _kind(arguments)
    _refuse_stray(arguments, kind)
    spec = {
        "kind": kind,
        "device": device,
        "netns": _netns(arguments.netns),
        "guest_device": arguments.guest_device,
        "lower": arguments.lower,
        "addresses": arguments.address,
        "gateways": arguments.gateway,
        "mac": arguments.mac,
        "duplicate_mac": arguments.duplicate_mac,
        "mtu": None if arguments.mtu is None else UInt(arguments.mtu),
        "filter": arguments.filter,
        "portgroup": arguments.portgroup,
        "vlan": arguments.vlan,
        "isolated": arguments.isolated,
        "link": False if arguments.unplugged else None,
        "forwards": arguments.forward,
        "queues": None if arguments.queues is None else UInt(arguments.queues),
        "owner": None if arguments.owner is None else UInt(_user(arguments.owner)),
        "group": None if arguments.group is None else UInt(_group(arguments.group)),
    }
    values: dict[str, Any] = _limits(arguments)
    values |= {f"parameter.{name}": value for name, value in by_parameter(arguments.parameters).items()}
    return {name: value for name, value in (spec | values).items() if value is not None}


def _limits(arguments: Namespace) -> dict[str, int]:
    """``inbound.average`` and so on. Raises ``CommandError`` for what is no number."""
    found: dict[str, int] = {}
    for direction, names in (
        ("inbound", ("average", "peak", "burst", "floor")),
        ("outbound", ("average", "peak", "burst")),
    ):
        texts = (getattr(arguments, direction) or "").split(",")
        if len(texts) > len(names):
            raise CommandError(f"--{direction} takes {len(names)} numbers at most", Exit.USAGE)
        for name, text in zip(names, texts, strict=False):
            if text and not (text.isascii() and text.isdigit()):
                raise CommandError(f"--{direction}: {text!r} is no number of KiB", Exit.USAGE)
            found |= {f"{direction}.{name}": int(text)} if text else {}
    return found


def _kind(arguments: Namespace) -> tuple[str, str | None]:
    for kind in ("veth", "macvlan", "ipvlan", "hostdev", "passt"):
        if getattr(arguments, kind):
            return kind, arguments.host_device
    for kind in ("tap", "macvtap"):
        if (name := getattr(arguments, kind)) is not None:
            return kind, name
    return "existing", arguments.device


INSIDE = ("veth", "macvlan", "ipvlan")
GOES_WITH: Mapping[str, tuple[str, ...]] = {
    "netns": INSIDE,
    "guest_device": INSIDE,
    "host_device": ("veth",),
    "lower": ("macvlan", "ipvlan"),
    "address": INSIDE,
    "gateway": INSIDE,
    "owner": ("tap", "macvtap", "passt"),
    "group": ("tap", "macvtap"),
    "queues": ("tap",),
    "forward": ("passt",),
}
"""Options of some kinds of port only."""


def _refuse_stray(arguments: Namespace, kind: str) -> None:
    """Options of one kind that were given with another."""
    for name, kinds in GOES_WITH.items():
        if kind not in kinds and getattr(arguments, name) is not None:
            others = " or ".join(f"--{one}" for one in kinds)
            raise CommandError(f"--{name.replace('_', '-')} can be given with {others} only", Exit.USAGE)
    if kind in INSIDE and arguments.netns is None:
        raise CommandError(f"--{kind} needs --netns: the network namespace the guest's end goes to", Exit.USAGE)
    if arguments.parameters and arguments.filter is None:
        raise CommandError("--parameter needs --filter", Exit.USAGE)


def _netns(text: str | None) -> str | None:
    """A name, the digits of a process id, or a path; the daemon has another working directory."""
    return os.path.abspath(text) if text and "/" in text else text


def _user(text: str) -> int:
    import pwd

    try:
        return int(text) if text.isdecimal() else pwd.getpwnam(text).pw_uid
    except KeyError:
        raise CommandError(f"there is no user {text!r}", Exit.USAGE) from None


def _group(text: str) -> int:
    import grp

    try:
        return int(text) if text.isdecimal() else grp.getgrnam(text).gr_gid
    except KeyError:
        raise CommandError(f"there is no group {text!r}", Exit.USAGE) from None
