"""Rules of policy routing (``ip rule``) that name a device. Format: linux/fib_rules.h.

Of what a rule says only its place and its devices are read. All else is carried as the kernel tells it, so that what a
newer kernel lets rules say moves too.
"""

import errno
import struct

from vnetd.linux import netlink
from vnetd.linux.netlink import U32, Attributes, ReadSocket, attributes, encode, number
from vnetd.linux.route_messages import FAMILIES
from vnetd.plan.possessions import HeldRule

RTM_NEWRULE, RTM_DELRULE, RTM_GETRULE = 32, 33, 34
CHANGES = (RTM_NEWRULE, RTM_DELRULE)
FRA_IIFNAME, FRA_PRIORITY, FRA_OIFNAME, FRA_PAD = 3, 6, 17, 18
READ = frozenset({FRA_IIFNAME, FRA_PRIORITY, FRA_OIFNAME, FRA_PAD})
RULE = struct.Struct("=8sI")
"""Family, lengths, type of service, table and action, which are carried along; flags."""
FLAGS_OF_THE_MOMENT = 0x4 | 0x8 | 0x10
"""UNRESOLVED, IIF_DETACHED, OIF_DETACHED: what the kernel tells of a rule and nobody says."""
NO_SUCH_FAMILY = frozenset({errno.EAFNOSUPPORT, errno.EOPNOTSUPP})


def read_rules(sock: ReadSocket, name: str) -> tuple[HeldRule, ...]:
    """Rules of both families that name the device, whether it is there or not, in order. Raises ``OSError``."""
    return tuple(rule for family in FAMILIES for rule in _dump(sock, family) if rule.names(name))


def devices_of(data: bytes, start: int, end: int) -> tuple[str, ...]:
    """The devices that a rule of a message names, each once."""
    found = attributes(data, start + RULE.size, end)
    return tuple(dict.fromkeys(name for kind in (FRA_IIFNAME, FRA_OIFNAME) if (name := _name(found, kind))))


def give_rule(sock: ReadSocket, rule: HeldRule) -> None:
    """Add a rule. EEXIST if there is the very same one."""
    sock.change(RTM_NEWRULE, netlink.NLM_F_CREATE | netlink.NLM_F_EXCL, _body(rule))


def take_rule(sock: ReadSocket, rule: HeldRule) -> None:
    """Delete a rule, the first that has all it says. ENOENT if there is none."""
    sock.change(RTM_DELRULE, 0, _body(rule))


def _dump(sock: ReadSocket, family: int) -> list[HeldRule]:
    try:
        return sock.dump(RTM_GETRULE, RULE.pack(bytes([family]), 0), _rule)
    except OSError as error:
        if error.errno in NO_SUCH_FAMILY:
            return []
        raise


def _rule(data: bytes, start: int, end: int) -> HeldRule:
    head, flags = RULE.unpack_from(data, start)
    found = attributes(data, start + RULE.size, end)
    said = b"".join(encode(kind, found[kind]) for kind in sorted(found.keys() - READ))
    return HeldRule(
        number(found, FRA_PRIORITY),
        RULE.pack(head, flags & ~FLAGS_OF_THE_MOMENT) + said,
        iif=_name(found, FRA_IIFNAME),
        oif=_name(found, FRA_OIFNAME),
    )


def _name(found: Attributes, kind: int) -> str:
    return found.get(kind, b"").rstrip(b"\0").decode(errors="replace")


def _body(rule: HeldRule) -> bytes:
    """The request that makes this rule, and that deletes it. Without a priority the kernel would choose one."""
    body = rule.said + encode(FRA_PRIORITY, U32.pack(rule.priority))
    for kind, name in ((FRA_IIFNAME, rule.iif), (FRA_OIFNAME, rule.oif)):
        if name:
            body += encode(kind, name.encode() + b"\0")
    return body
