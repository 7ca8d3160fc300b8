"""What ``vnetctl port attach`` takes, and the spec of ``Attach`` it makes of that."""

import os
from argparse import Namespace
from collections.abc import Mapping
from typing import Any

from vnetctl.errors import CommandError, Exit
from vnetctl.grammar import PARAMETERS, OneOf, argument, flag, mac
from vnetctl.session import by_parameter

LIMITS = (
    argument(
        "--inbound",
        metavar="AVERAGE[,PEAK[,BURST[,FLOOR]]]",
        help="of what the guest receives: KiB/s, the burst in KiB",
    ),
    argument("--outbound", metavar="AVERAGE[,PEAK[,BURST]]", help="the same of what it sends"),
)
ON_OFF = ("on", "off")
KINDS = (
    flag("--veth", "a pair of devices, one end in the guest's network namespace"),
    flag("--macvlan", "a device in the guest's namespace on one of the host's"),
    flag("--ipvlan", "the same with the MAC address of the host's device"),
    argument("--tap", metavar="NAME", help="a tap that stays when nobody has it open"),
    argument("--device", metavar="DEV", help="a device that exists"),
    argument("--macvtap", metavar="NAME", help="a macvtap that stays when nobody has it open"),
    flag("--hostdev", "a virtual function of a network card, handed out whole"),
    flag("--passt", "a passt process with a socket for the guest"),
)
TAKES = (
    argument("network", metavar="NETWORK", help="name or UUID"),
    OneOf(KINDS, required=True),
    argument("--netns", metavar="NAME|PID|PATH", help="the network namespace for --veth, --macvlan, --ipvlan"),
    argument("--guest-device", metavar="NAME", help="with --netns: name of the guest's end (eth0)"),
    argument("--lower", metavar="DEV", help="with --macvlan, --ipvlan: what it lies on (the uplink)"),
    argument("--host-device", metavar="NAME", help="with --veth: name of the host's end (chosen)"),
    argument("--address", action="append", metavar="ADDRESS/PREFIX", help="with --netns: the guest's"),
    argument("--gateway", action="append", metavar="ADDRESS", help="with --netns: its default route"),
    argument("--owner", metavar="USER", help="with --tap, --macvtap: who may open it (you); with --passt: who runs it"),
    argument("--group", metavar="GROUP", help="with --tap, --macvtap: whose members may open it"),
    argument("--queues", type=int, metavar="N", help="with --tap: more than 1 if several can be open at once"),
    argument(
        "--forward", action="append", metavar="PROTOCOL:[ADDRESS:]PORT[:PORT]", help="with --passt: a port of the host"
    ),
    argument(
        "--spoof-check", choices=ON_OFF, help="with --hostdev: whether the card drops what has another MAC address"
    ),
    argument(
        "--trust",
        choices=ON_OFF,
        help="with --hostdev: whether the guest may change its MAC address and see all packets",
    ),
    argument("--mac", type=mac, metavar="MAC", help="the guest's MAC address (made up)"),
    argument("--mtu", type=int, metavar="BYTES", help="largest packet (the network's)"),
    argument("--portgroup", metavar="NAME", help="the network's port group (its default one)"),
    argument(
        "--vlan",
        action="append",
        metavar="ID[:untagged|:tagged]",
        help="VLAN of the port, on a bridge that filters; given again it makes a trunk, :… marks its native one",
    ),
    flag("--isolated", "keep it from other isolated ports", default=None),
    flag("--duplicate-mac", "let it share the MAC of another port", default=None),
    flag("--unplugged", "leave the guest's cable unplugged", default=None),
    argument("--filter", metavar="FILTER", help="filter in force from the first packet on"),
    PARAMETERS,
    *LIMITS,
)


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
        "spoof_check": _on(arguments.spoof_check),
        "trust": _on(arguments.trust),
        "queues": None if arguments.queues is None else UInt(arguments.queues),
        "owner": None if arguments.owner is None else UInt(_user(arguments.owner)),
        "group": None if arguments.group is None else UInt(_group(arguments.group)),
    }
    values: dict[str, Any] = limits_of(arguments)
    values |= {f"parameter.{name}": value for name, value in by_parameter(arguments.parameters).items()}
    return {name: value for name, value in (spec | values).items() if value is not None}


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
    "spoof_check": ("hostdev",),
    "trust": ("hostdev",),
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


def _on(word: str | None) -> bool | None:
    return None if word is None else word == "on"


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


def limits_of(arguments: Namespace) -> dict[str, int]:
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
