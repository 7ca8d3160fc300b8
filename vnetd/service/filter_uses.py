"""Filters in use: on which devices, with which values, and what becomes of one whose guest's addresses are unknown."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from ipaddress import IPv6Address

from vnetd.model.capability import refusal
from vnetd.model.errors import Invalid
from vnetd.model.filter import Filter
from vnetd.plan.drift import union
from vnetd.plan.features import PLAIN, BridgeFeatures
from vnetd.plan.rules import EMPTY, Family, Fragment
from vnetd.ruleset.filter import admits_only_by, compile_binding, references, unresolved
from vnetd.ruleset.learning import Watched, watching
from vnetd.ruleset.unbridged import entrance, unbridged
from vnetd.service.lessons import NOWHERE, Learned, Mode, Pupil, Site, mode_of, servers_of

log = logging.getLogger(__name__)

GUEST = "vnetd-guest"
"""The filter of those who may not choose to have none; its guests' addresses are learned from DHCP."""
NEIGHBOUR = "vnetd-guest-ipv6"
"""Whoever's filter this is, or refers to it, advertises no neighbours but the addresses in its ``IPV6``."""
LEARNABLE = {"IP": 4, "IPV6": 6}
STATELESS = BridgeFeatures(untracked="packets of a device that is in no bridge are not tracked")


@dataclass(frozen=True, slots=True)
class Bound:
    """A filter on a device, whoever asked for it. ``owner`` is the key of its part of the ruleset.

    ``family`` is that of its rules: ``netdev`` for a macvtap, whose packets pass no bridge. If that is ``there`` for as
    long as the rules are, what leads to them at the device is one of them.
    """

    owner: str
    device: str
    filter: str
    mac: str
    parameters: Mapping[str, tuple[str, ...]]
    site: Site = NOWHERE
    family: Family = "bridge"
    there: bool = True


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What was learned of a guest, and whether its traffic still teaches (mode ``any``, at first).

    ``refused``: it has used an address that is somebody else's.
    """

    learned: Learned = ()
    traffic: bool = True
    refused: bool = False


def pupil_of(filters: Mapping[str, Filter], bound: Bound) -> Pupil | None:
    """Whose addresses have to be learned for this use of a filter, ``None`` if it has all it needs.

    Raises ``Invalid`` and ``Unsupported`` for what cannot be learned.
    """
    lacking = unresolved(filters, bound.filter, {*bound.parameters, *(["MAC"] if bound.mac else [])})
    learnable = lacking & LEARNABLE.keys()
    if not learnable or lacking - LEARNABLE.keys():
        return None  # the compiler names what is missing
    mode = mode_of(bound.parameters, Mode.DHCP if GUEST in _closure(filters, bound.filter) else Mode.ANY)
    if mode is Mode.NONE:
        return None
    if not bound.mac:
        raise Invalid(f"filter {bound.filter} on {bound.device}: learning addresses needs the guest's MAC: give MAC")
    if "IPV6" in learnable:
        admits_only_by(filters, bound.filter, learnable)
    families = frozenset(LEARNABLE[name] for name in learnable)
    return Pupil(bound.mac, mode, families, servers_of(bound.parameters), bound.site)


def compile_use(
    filters: Mapping[str, Filter], bound: Bound, known: Knowledge, features: BridgeFeatures = PLAIN
) -> Fragment:
    """The rules of a filter on a device. Raises ``Invalid`` or ``Unsupported`` saying what stands against it."""
    if bound.family == "bridge":
        return _bridged(filters, bound, known, features)
    if features.unhooked:
        what = f"filter {bound.filter} on {bound.device}, which is in no bridge,"
        raise refusal(what, "nft-netdev-egress", features.unhooked)
    rules = unbridged(_bridged(filters, bound, known, STATELESS))
    return union((rules, entrance(bound.device, rules))) if bound.there else rules


def _bridged(filters: Mapping[str, Filter], bound: Bound, known: Knowledge, features: BridgeFeatures) -> Fragment:
    """The rules as they are for the port of a bridge."""
    pupil = pupil_of(filters, bound)
    if pupil is None:
        given = bound.parameters.get("IPV6", ()) if NEIGHBOUR in _closure(filters, bound.filter) else None
        rules = _compiled(filters, bound, bound.filter, {}, features)
        return rules if given is None else union((rules, _held(bound.device, given)))
    values = {name: pupil.addresses(known.learned, LEARNABLE[name]) for name in LEARNABLE}
    found = {n: tuple(map(str, values[n])) for n in LEARNABLE if LEARNABLE[n] in pupil.families}
    speaks_for = frozenset(one for one in values["IPV6"] if isinstance(one, IPv6Address))
    traffic = known.traffic and pupil.mode is Mode.ANY and 4 in pupil.families
    guarded = speaks_for if NEIGHBOUR in _closure(filters, bound.filter) else None
    seen = watching(Watched(bound.device, traffic, guarded))
    if pupil.families == {4} and not found["IP"]:
        rules = _compiled(beginnings(), bound, _beginning_of(pupil, known), {}, features)
    else:
        rules = _compiled(filters, bound, bound.filter, found, features)
    return union((rules, seen))


def _beginning_of(pupil: Pupil, known: Knowledge) -> str:
    if pupil.mode is Mode.ANY and not known.refused:
        return "learning-any"
    return "learning-dhcp-server" if pupil.servers else "learning-dhcp"


def _held(device: str, addresses: tuple[str, ...]) -> Fragment:
    return watching(Watched(device, speaks_for=frozenset(IPv6Address(one) for one in addresses)))


def _compiled(
    filters: Mapping[str, Filter],
    bound: Bound,
    name: str,
    found: Mapping[str, tuple[str, ...]],
    features: BridgeFeatures,
) -> Fragment:
    compiled = compile_binding(filters, name, bound.device, bound.mac, {**bound.parameters, **found}, features)
    for warning in compiled.warnings:
        log.warning("filter %s on %s: %s", name, bound.device, warning)
    return compiled.fragment or EMPTY


def _closure(filters: Mapping[str, Filter], name: str) -> set[str]:
    return {name, *references(filters, name)}


@cache
def beginnings() -> Mapping[str, Filter]:
    """What is in force while no IPv4 address is known, by mode (libvirt's nwfilter page, CTRL_IP_LEARNING)."""
    return {
        "learning-any": _beginning(
            "learning-any",
            _rule("accept", "out", "mac", srcmacaddr="$MAC", protocolid="ipv4"),
            _rule("accept", "out", "mac", srcmacaddr="$MAC", protocolid="arp"),
            {"action": "drop", "direction": "out"},
        ),
        "learning-dhcp": _dhcp_only("learning-dhcp"),
        "learning-dhcp-server": _dhcp_only("learning-dhcp-server", srcipaddr="$DHCPSERVER"),
    }


def _dhcp_only(name: str, **server: str) -> Filter:
    request = {"protocol": "udp", "srcportstart": "68", "dstportstart": "67"}
    answer = {"protocol": "udp", "srcportstart": "67", "dstportstart": "68"}
    return _beginning(
        name,
        _rule("accept", "out", "ip", srcmacaddr="$MAC", **request),
        _rule("accept", "in", "ip", dstmacaddr="$MAC", **server, **answer),
        _rule("accept", "in", "ip", dstmacaddr="ff:ff:ff:ff:ff:ff", **server, **answer),
        {"action": "drop", "direction": "inout"},
    )


def _beginning(name: str, *rules: object) -> Filter:
    return Filter.model_validate({"name": name, "entries": rules})


def _rule(action: str, direction: str, element: str, /, **attributes: str) -> object:
    values = [{"name": name, "value": value} for name, value in attributes.items()]
    return {"action": action, "direction": direction, "match": {"protocol": element, "attributes": values}}
