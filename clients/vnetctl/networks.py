"""``vnetctl network …``."""

import time
from argparse import Namespace
from typing import Any

from vnetctl.files import read_document
from vnetctl.grammar import (
    DISABLE,
    DOCUMENT,
    EDITED,
    INACTIVE,
    OneOf,
    argument,
    flag,
    format_of,
    mac,
    name_of,
    names_of,
    only,
    verb,
)
from vnetctl.objects import NETWORK
from vnetctl.output import Row
from vnetctl.session import Session, each, named, rows

LIST = (
    ("Name", "name"),
    ("State", "state"),
    ("Mode", "mode"),
    ("Bridge", "bridge"),
    ("Addresses", "addresses"),
    ("Autostart", "autostart"),
    ("Persistent", "persistent"),
)
SHOW = (
    ("Name", "name"),
    ("UUID", "uuid"),
    ("Mode", "mode"),
    ("State", "state"),
    ("Active", "active"),
    ("Persistent", "persistent"),
    ("Autostart", "autostart"),
    ("Bridge", "bridge"),
    ("Addresses", "addresses"),
    ("Ports", "devices"),
    ("Healed", "healed_count"),
    ("Problems", "problems"),
)
LEASES = (
    ("Expiry time", "expires"),
    ("MAC address", "mac"),
    ("Protocol", "family"),
    ("IP address", "cidr"),
    ("Host name", "hostname"),
    ("Client ID or DUID", "client_id"),
)


async def list_(session: Session, arguments: Namespace) -> None:
    """All networks, or those the options leave."""
    wanted = {key: getattr(arguments, key) for key in ("active", "persistent", "autostart")}
    found = [
        row
        for row in await rows(session, "ListNetworks")
        if all(value is None or bool(row.get(key)) is value for key, value in wanted.items())
    ]
    session.output.listing(LIST, found, only=arguments.only)


async def stop(session: Session, arguments: Namespace) -> None:
    """Take networks down: those named, or all that are active."""
    if arguments.all:
        targets = [row for row in await rows(session, "ListNetworks") if row["active"]]
        await each(session, targets, lambda row: _stop(session, row), "network {name} stopped")
    else:
        await NETWORK.call_each(session, arguments.names, "Stop", "stopped")


async def _stop(session: Session, network: dict[str, Any]) -> Row:
    await session.daemon.call(network["path"], NETWORK.interface, "Stop")
    return {key: network[key] for key in ("name", "uuid", "path")}


async def update(session: Session, arguments: Namespace) -> None:
    """Change one section, as libvirt's net-update does."""
    from vnetctl.connection import options

    path = await NETWORK.path(session, arguments.name)
    text = arguments.element
    element = text if text.lstrip().startswith("<") else read_document(text)
    given = {"live": arguments.live or None, "config": arguments.config or None, "parent_index": arguments.parent_index}
    command = "add-last" if arguments.command == "add" else arguments.command
    await session.daemon.call(
        path, NETWORK.interface, "Update", "sssa{sv}", command, arguments.section, element, options(given)
    )
    network = await named(session, path, NETWORK.interface)
    session.output.done(f"network {network['name']} updated: {command} {arguments.section}", network)


async def leases(session: Session, arguments: Namespace) -> None:
    """Addresses that guests have from DHCP, by MAC address."""
    path = await NETWORK.path(session, arguments.name)
    found: list[dict[str, Any]] = await session.daemon.call(path, NETWORK.interface, "GetLeases", "a{sv}", {})
    if arguments.mac is not None:
        found = [lease for lease in found if lease["mac"] == arguments.mac]
    found.sort(key=lambda lease: (lease["mac"], lease["address"]))
    if session.output.as_json:
        session.output.json(found)
    else:
        session.output.table(LEASES, [_lease(lease) for lease in found])


def _lease(lease: dict[str, Any]) -> Row:
    expiry = lease["expiry"]
    expires = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(expiry)) if expiry else "never"
    return {**lease, "expires": expires, "cidr": f"{lease['address']}/{lease['prefix']}"}


SECTIONS = (
    "bridge", "domain", "ip", "ip-dhcp-host", "ip-dhcp-range", "forward", "forward-interface", "forward-pf",
    "portgroup", "dns-host", "dns-txt", "dns-srv",
)  # fmt: skip
COMMANDS = ("add", "add-first", "add-last", "modify", "delete")


def _either(yes: str, no: str, key: str) -> OneOf:
    """Only those that are so, or only those that are not."""
    return OneOf(
        [
            argument(option, dest=key, action=action, default=None, help=f"only {option.lstrip('-')} ones")
            for option, action in ((yes, "store_true"), (no, "store_false"))
        ]
    )


ONE, SOME = name_of("NETWORK"), names_of("NETWORK")
VERBS = (
    verb(
        "list", list_, "list networks",
        _either("--active", "--inactive", "active"),
        _either("--persistent", "--transient", "persistent"),
        _either("--autostart", "--no-autostart", "autostart"),
        only(name="name", uuid="uuid"),
    ),
    verb(
        "show", NETWORK.showing(SHOW), "show one network: what it is now, or its document",
        ONE, format_of("xml", "json"), INACTIVE,
    ),
    verb(
        "define", NETWORK.giving("Define", "defined"),
        "keep a network's document, new or changed; does not start it", *DOCUMENT,
    ),
    verb(
        "create", NETWORK.giving("Create", "created"), "start a network that is forgotten when it stops", *DOCUMENT
    ),
    verb("plan", NETWORK.plan, "show what defining and starting a document would do; changes nothing", *DOCUMENT),
    verb("start", NETWORK.acting("Start", "started"), "bring networks up", SOME),
    verb(
        "stop", stop, "take networks down",
        OneOf(
            [
                flag("--all", "all that are active"),
                argument("names", nargs="*", metavar="NETWORK", default=[], help="name or UUID"),
            ],
            required=True,
        ),
    ),
    verb(
        "undefine", NETWORK.acting("Undefine", "undefined"),
        "forget networks; what is active runs on until it stops", SOME,
    ),
    verb("edit", NETWORK.edit, "change a network's document in $VISUAL or $EDITOR", ONE, EDITED),
    verb(
        "update", update, "change one section of a network in place",
        ONE,
        argument("command", choices=COMMANDS, metavar="COMMAND", help=", ".join(COMMANDS)),
        argument("section", choices=SECTIONS, metavar="SECTION", help=", ".join(SECTIONS)),
        argument("element", metavar="XML", help="the element: itself if it begins with '<', else FILE or -"),
        argument("--parent-index", type=int, metavar="N", help="which <ip> of the network a DHCP entry is in"),
        flag("--live", "change what runs"),
        flag("--config", "change what is kept"),
    ),
    verb("autostart", NETWORK.autostart, "start a network with the host", ONE, DISABLE),
    verb(
        "leases", leases, "list the addresses guests have from DHCP",
        ONE, argument("mac", nargs="?", type=mac, metavar="MAC", help="only of this guest"),
    ),
)  # fmt: skip
