"""``vnetctl port …``."""

from argparse import Namespace
from typing import Any

from vnetctl.attachment import LIMITS, TAKES, limits_of, specification
from vnetctl.errors import CommandError, Exit
from vnetctl.grammar import argument, format_of, only, verb
from vnetctl.objects import NETWORK, PORT
from vnetctl.output import Row
from vnetctl.session import Session, each, properties, rows

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
        network = await NETWORK.path(session, arguments.network)
        found = [row for row in found if row["network"] == network]
    session.output.listing(LIST, found, only=arguments.only)


async def show(session: Session, arguments: Namespace) -> None:
    """One port: what it is now, or its document."""
    path = await PORT.path(session, arguments.port)
    if arguments.format != "table":
        session.output.document(await PORT.describe(session, path, arguments.format))
        return
    session.output.labelled(SHOW, await properties(session, path, PORT.interface))


async def attach(session: Session, arguments: Namespace) -> None:
    """Attach a guest to a network."""
    from vnetctl.connection import options

    path, result = await session.daemon.manager(
        "Attach", "sa{sv}", arguments.network, options(specification(arguments))
    )
    port = await properties(session, path, PORT.interface)
    session.output.done(
        f"port {port['device']} attached to network {port['network_name']} ({port['uuid']})", {**port, "result": result}
    )


async def _change(session: Session, ref: str, member: str, signature: str, *body: object) -> dict[str, Any]:
    """Call a method of a port; its properties afterwards."""
    path = await PORT.path(session, ref)
    await session.daemon.call(path, PORT.interface, member, signature, *body)
    return await properties(session, path, PORT.interface)


async def link(session: Session, arguments: Namespace) -> None:
    """Plug the guest's cable in or out."""
    port = await _change(session, arguments.port, "SetLink", "b", arguments.state == "up")
    session.output.done(f"link of port {port['device']} set {arguments.state}", port)


async def addresses(session: Session, arguments: Namespace) -> None:
    """A guest's addresses."""
    path = await PORT.path(session, arguments.port)
    found = await session.daemon.call(path, PORT.interface, "GetAddresses", "a{sv}", {})
    session.output.table(ADDRESSES, found)


async def move(session: Session, arguments: Namespace) -> None:
    """Plug a port into another network, or give it another port group."""
    wanted = [("Move", arguments.network), ("SetPortgroup", arguments.portgroup)]
    if not (changes := [(member, value) for member, value in wanted if value is not None]):
        raise CommandError("name a network, --portgroup, or both", Exit.USAGE)
    for member, value in changes:
        port = await _change(session, arguments.port, member, "s", value)
    session.output.done(f"port {port['device']} is in network {port['network_name']}", port)


async def limit(session: Session, arguments: Namespace) -> None:
    """Limit a port's bandwidth."""
    from vnetctl.connection import options

    limits = limits_of(arguments)
    if not limits:
        raise CommandError("nothing is to be limited: give --inbound, --outbound or both", Exit.USAGE)
    port = await _change(session, arguments.port, "SetBandwidth", "a{sv}", options(limits))
    session.output.done(f"bandwidth of port {port['device']} changed", port)


async def isolate(session: Session, arguments: Namespace) -> None:
    """Keep a port from other isolated ones, or no longer."""
    port = await _change(session, arguments.port, "SetIsolated", "b", arguments.state == "on")
    session.output.done(f"port {port['device']} is {'' if port['isolated'] else 'not '}isolated", port)


async def detach(session: Session, arguments: Namespace) -> None:
    """End attachments."""

    async def one(ref: str) -> Row:
        path = await PORT.path(session, ref)
        port = await properties(session, path, PORT.interface)
        await session.daemon.call(path, PORT.interface, "Detach")
        return port

    await each(session, arguments.ports, one, "port {device} detached from network {network_name}")


ONE = argument("port", metavar="PORT", help="UUID or device")
VERBS = (
    verb(
        "list", list_, "list ports",
        argument("--network", metavar="NETWORK", help="only of this network"), only(device="device", uuid="uuid"),
    ),
    verb("show", show, "show one port: what it is now, or its document", ONE, format_of("xml", "json")),
    verb("attach", attach, "attach a guest to a network", *TAKES),
    verb(
        "link", link, "plug the guest's cable in or out",
        ONE, argument("state", choices=("up", "down"), help="in or out"),
    ),
    verb("addresses", addresses, "list a guest's addresses, their source and age in seconds", ONE),
    verb(
        "move", move, "plug a port into another network, or give it another port group",
        ONE,
        argument("network", nargs="?", metavar="NETWORK", help="name or UUID (where it is)"),
        argument("--portgroup", metavar="NAME", help="the network's port group (its default one)"),
    ),
    verb("limit", limit, "limit a port's bandwidth; 0 takes a limit away", ONE, *LIMITS),
    verb(
        "isolate", isolate, "keep a port from other isolated ones, or no longer",
        ONE, argument("state", choices=("on", "off"), help="whether it is isolated"),
    ),
    verb(
        "detach", detach, "end attachments; a device that vnetd made goes with it",
        argument("ports", nargs="+", metavar="PORT", help="UUID or device"),
    ),
)  # fmt: skip
