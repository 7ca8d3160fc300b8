"""What one network needs of the kernel, and the steps from what is there to what should be.

``plan`` is pure and total: planning again after its steps were executed gives no steps. Steps of a ``Phase`` may
only run after all of the phase before: a bridge has its sysctls and rules before it has addresses, and these before
it is up. Rules go by the bridge's name and need no bridge, so they may be written while it is being made.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv6Interface

from vnetd.model.base import IPInterface
from vnetd.plan.bridge import plan_bridge, plan_sysctls
from vnetd.plan.dnsmasq import DnsmasqState, Instance
from vnetd.plan.kernel import (
    AddAddress,
    AddConnectedRoute,
    AddRoute,
    CreateBridge,
    DeleteAddress,
    DeleteLink,
    DeleteRoute,
    DisableTxChecksum,
)
from vnetd.plan.links import KernelRoute, LinkView
from vnetd.plan.rules import EMPTY, Fragment
from vnetd.plan.shaping import Shaping
from vnetd.plan.steps import ForeignLink, KernelStep, Phase, Sysctl

__all__ = [
    "DesiredNetwork",
    "ForeignLink",
    "KernelStep",
    "ObservedNetwork",
    "Phase",
    "ReloadDnsmasq",
    "RulesStep",
    "StartDnsmasq",
    "Step",
    "StopDnsmasq",
    "Sysctl",
    "link_local",
    "network_owner",
    "plan",
    "plan_removal",
]


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
    shaping: Shaping | None = None


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


def plan(desired: DesiredNetwork, observed: ObservedNetwork, previous: DesiredNetwork | None = None) -> list[Step]:
    """Steps that turn ``observed`` into ``desired``, in order.

    Addresses and routes of ``previous`` that are no longer desired are removed; others on the bridge belong to
    somebody else and stay. Raises ``ForeignLink`` if the bridge's name is taken by a link that is not ours.
    """
    steps: list[Step] = [
        *plan_bridge(desired.bridge, observed.view.link if observed.view else None, observed.ours),
        *_plan_checksums(desired, observed),
        *plan_sysctls(desired.sysctls, observed.sysctls, observed.view is not None),
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


def _plan_checksums(desired: DesiredNetwork, observed: ObservedNetwork) -> Iterator[Step]:
    if observed.view is None and desired.complete_checksums:
        name = desired.bridge.name
        yield KernelStep(Phase.LINK, f"bridge {name}", DisableTxChecksum(name))


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
