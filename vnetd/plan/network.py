"""What one network needs of the kernel, and the steps from what is there to what should be.

``plan`` is pure and total: planning again after its steps were executed gives no steps. Steps of a ``Phase`` may
only run after all of the phase before: a bridge has its sysctls and rules before it has addresses, and these before
it is up. Rules go by the bridge's name and need no bridge, so they may be written while it is being made.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv6Interface

from vnetd.model.base import IPInterface
from vnetd.plan.dnsmasq import DnsmasqState, Instance
from vnetd.plan.kernel import (
    AddAddress,
    AddConnectedRoute,
    AddRoute,
    BridgeState,
    CreateBridge,
    DeleteAddress,
    DeleteLink,
    DeleteRoute,
    DisableTxChecksum,
    KernelRoute,
    Link,
    LinkView,
    Operation,
    SetLink,
    WriteSysctl,
)
from vnetd.plan.rules import EMPTY, Fragment


class Phase(IntEnum):
    """Order in which a network comes into being."""

    REMOVE = 0
    RULES = 1
    LINK = 2
    ADDRESSES = 3
    UP = 4
    ROUTES = 5
    DNSMASQ = 6


@dataclass(frozen=True, slots=True)
class KernelStep:
    """One kernel operation; ``what`` names the object in words for people."""

    phase: Phase
    what: str
    operation: Operation


@dataclass(frozen=True, slots=True)
class RulesStep:
    """Make the owner's part of the ruleset this fragment (``None``: nothing)."""

    owner: str
    fragment: Fragment | None
    phase: Phase = Phase.RULES
    what: str = "rules"


@dataclass(frozen=True, slots=True)
class StartDnsmasq:
    """Start dnsmasq anew."""

    instance: Instance
    phase: Phase = Phase.DNSMASQ
    what: str = "dnsmasq"


@dataclass(frozen=True, slots=True)
class ReloadDnsmasq:
    """Write dnsmasq's files and have it read them."""

    instance: Instance
    what: str
    phase: Phase = Phase.DNSMASQ


@dataclass(frozen=True, slots=True)
class StopDnsmasq:
    """End dnsmasq of a network that needs none any more."""

    network: str
    phase: Phase = Phase.REMOVE
    what: str = "dnsmasq"


Step = KernelStep | RulesStep | StartDnsmasq | ReloadDnsmasq | StopDnsmasq


@dataclass(frozen=True, slots=True)
class Sysctl:
    """A sysctl and its value; ``optional`` ones need not exist."""

    path: tuple[str, ...]
    value: str
    optional: bool = False


@dataclass(frozen=True, slots=True)
class DesiredNetwork:
    """One network in kernel terms, normalised to what the kernel will show."""

    uuid: str
    bridge: CreateBridge
    addresses: tuple[IPInterface, ...]
    routes: tuple[KernelRoute, ...]
    sysctls: tuple[Sysctl, ...]
    fragment: Fragment
    dnsmasq: Instance | None
    complete_checksums: bool = False


@dataclass(frozen=True, slots=True)
class ObservedNetwork:
    """The same as found on the host; ``fragment`` is what the ledger of written rules holds.

    ``ours``: the link has the index of the one vnetd made, so that it is ours even if its alias was changed.
    """

    view: LinkView | None
    sysctls: Mapping[tuple[str, ...], str | None]
    fragment: Fragment | None
    dnsmasq: DnsmasqState
    ours: bool = False


class ForeignLink(Exception):
    """A link with the bridge's name exists that vnetd did not make."""


def plan(desired: DesiredNetwork, observed: ObservedNetwork, previous: DesiredNetwork | None = None) -> list[Step]:
    """Steps that turn ``observed`` into ``desired``, in order.

    Addresses and routes of ``previous`` that are no longer desired are removed; others on the bridge belong to
    somebody else and stay. Raises ``ForeignLink`` if the bridge's name is taken by a link that is not ours.
    """
    steps: list[Step] = [
        *_plan_link(desired.bridge, observed, desired.complete_checksums),
        *_plan_sysctls(desired, observed),
        *_plan_rules(desired, observed),
        *_plan_addresses(desired, observed.view, previous),
        *_plan_dnsmasq(desired, observed),
    ]
    return sorted(steps, key=lambda step: step.phase)


def plan_removal(uuid: str, bridge: CreateBridge) -> list[Step]:
    """Steps that take a network away; each is harmless where its object is gone already."""
    return [
        StopDnsmasq(uuid),
        KernelStep(Phase.REMOVE, f"bridge {bridge.name}", DeleteLink(bridge.name, bridge.alias)),
        RulesStep(network_owner(uuid), None),
    ]


def network_owner(uuid: str) -> str:
    """Owner of a network's part of the ruleset."""
    return f"network:{uuid}"


def link_local(mac: str) -> IPv6Interface:
    """The link-local address the kernel derives from a MAC address (RFC 4291, appendix A)."""
    octets = bytes.fromhex(mac.replace(":", ""))
    identifier = bytes([octets[0] ^ 2]) + octets[1:3] + b"\xff\xfe" + octets[3:]
    return IPv6Interface((b"\xfe\x80" + bytes(6) + identifier, 64))


def _plan_link(want: CreateBridge, observed: ObservedNetwork, complete_checksums: bool) -> Iterator[Step]:
    what, view = f"bridge {want.name}", observed.view
    if view is None:
        yield KernelStep(Phase.LINK, what, want)
        if complete_checksums:
            yield KernelStep(Phase.LINK, what, DisableTxChecksum(want.name))
    elif view.link.alias != want.alias and not observed.ours:
        raise ForeignLink(want.name)
    else:
        for change in _bridge_changes(want, view.link):
            yield KernelStep(Phase.LINK, what, change)
    if view is None or not view.link.up:
        yield KernelStep(Phase.UP, what, SetLink(want.name, up=True))


def _bridge_changes(want: CreateBridge, have: Link) -> Iterator[SetLink]:
    state = have.bridge or BridgeState(stp=want.stp, forward_delay=want.forward_delay)
    if state.stp and not want.stp:
        # In one request the kernel would take the delay first, and none below 2 s while STP is on.
        yield SetLink(want.name, stp=False)
    change = SetLink(
        want.name,
        mac=want.mac if have.mac != want.mac else None,
        mtu=want.mtu if have.mtu != want.mtu else None,
        alias=want.alias if have.alias != want.alias else None,
        stp=True if want.stp and not state.stp else None,
        forward_delay=want.forward_delay if state.forward_delay != want.forward_delay else None,
    )
    if change != SetLink(want.name):
        yield change


def _plan_sysctls(desired: DesiredNetwork, observed: ObservedNetwork) -> Iterator[Step]:
    for sysctl in desired.sysctls:
        have = observed.sysctls.get(sysctl.path)
        if have != sysctl.value and not (have is None and sysctl.optional and observed.view is not None):
            what = f"sysctl {'/'.join(sysctl.path)}"
            yield KernelStep(Phase.LINK, what, WriteSysctl(sysctl.path, sysctl.value, sysctl.optional))


def _plan_rules(desired: DesiredNetwork, observed: ObservedNetwork) -> Iterator[Step]:
    if (observed.fragment or EMPTY) != desired.fragment:
        yield RulesStep(network_owner(desired.uuid), desired.fragment)


def _plan_addresses(desired: DesiredNetwork, view: LinkView | None, previous: DesiredNetwork | None) -> Iterator[Step]:
    name = desired.bridge.name
    addresses = view.addresses if view else frozenset()
    routes = view.routes if view else frozenset()
    if previous and view:
        for address in set(previous.addresses) & addresses - set(desired.addresses):
            yield KernelStep(Phase.REMOVE, f"address {address}", DeleteAddress(name, address))
        for route in set(previous.routes) & routes - set(desired.routes):
            yield KernelStep(Phase.REMOVE, f"route {route.destination}", DeleteRoute(name, route))
    for address in desired.addresses:
        if address not in addresses:
            yield KernelStep(Phase.ADDRESSES, f"address {address}", AddAddress(name, address))
        elif view and view.link.up and address.network not in view.connected and _has_subnet(address):
            yield KernelStep(Phase.ROUTES, f"route {address.network}", AddConnectedRoute(name, address))
    # The kernel takes routes only on a link that is up and has the gateway's subnet.
    for route in desired.routes:
        if route not in routes:
            yield KernelStep(Phase.ROUTES, f"route {route.destination}", AddRoute(name, route))


def _has_subnet(address: IPInterface) -> bool:
    return address.network.prefixlen < address.max_prefixlen


def _plan_dnsmasq(desired: DesiredNetwork, observed: ObservedNetwork) -> Iterator[Step]:
    want, have = desired.dnsmasq, observed.dnsmasq
    if want is None:
        if have.pid:
            yield StopDnsmasq(desired.uuid)
        return
    changed = sorted(name for name, text in want.files.items() if have.files.get(name) != text)
    # Its DHCP socket is bound to the bridge's index: a bridge that is made anew needs a dnsmasq started anew.
    if not have.pid or have.started_with != want.files["dnsmasq.conf"] or observed.view is None:
        yield StartDnsmasq(want)
    elif changed:
        yield ReloadDnsmasq(want, f"dnsmasq file {', '.join(changed)}")
