"""All chains of a filter: link-layer chains first, then those of the network layer, named by their content.

A chain named by its content is the same chain for all ports whose rules are equal, and a filter that changes gives
other chains: changing it while it is used is a change of map elements. Link-layer acceptance leads on to the
network layer; what nothing matches is accepted.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from vnetd.model.filter import chain_prefix
from vnetd.plan.features import BridgeFeatures
from vnetd.plan.rules import Chain, Fragment, Hook, Json, Set
from vnetd.ruleset.expressions import ACCEPT, jump, match, meta, payload, vmap
from vnetd.ruleset.filter_bound import Bound
from vnetd.ruleset.filter_flows import Side as Flowing
from vnetd.ruleset.filter_link import STP_ADDRESS, ethertype
from vnetd.ruleset.filter_origin import told
from vnetd.ruleset.filter_resolve import Jump, Placed, Side, chain_ethertype
from vnetd.ruleset.filter_rules import goto, interface, link_layer, network_entry, network_layer
from vnetd.ruleset.filter_uses import Statements, Uses, chain_of, digest

FROM_GUEST = Set("bridge", "from_guest", ("ifname",), data="verdict")
TO_GUEST = Set("bridge", "to_guest", ("ifname",), data="verdict")
BASE = Fragment(
    chains=(
        # After connection tracking (-200), but before br_netfilter's hooks and its translations of the packet (0).
        Chain("bridge", "prerouting", ((vmap(meta("iifname"), "from_guest"),),), Hook("filter", "prerouting", -150)),
        Chain("bridge", "postrouting", ((vmap(meta("oifname"), "to_guest"),),), Hook("filter", "postrouting", 200)),
    ),
    sets=(FROM_GUEST, TO_GUEST),
)
"""What dispatches to the chains of the ports; every port's fragment holds it."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A filter's chains and sets without any port's elements.

    ``entries`` maps a dispatching map to the chain a port's packets enter.
    """

    chains: tuple[Chain, ...]
    sets: tuple[Set, ...]
    entries: Mapping[str, str]
    own: tuple["OwnChain", ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OwnChain:
    """A chain each port has its own of, entered through a map keyed by interface from a chain that is shared."""

    map: Set
    kind: str
    towards_guest: bool
    members: tuple[Placed, ...]
    accepted: Json


@dataclass(slots=True)
class _Work:
    """Chains made so far. ``identity`` names the filter with all it refers to."""

    identity: str
    bounds: Mapping[int, Bound]
    features: BridgeFeatures
    uses: Uses = field(default_factory=Uses)
    entries: dict[str, str] = field(default_factory=dict)
    own: list[OwnChain] = field(default_factory=list)

    def chain(self, kind: str, towards_guest: bool, rules: Iterable[Statements]) -> str:
        """Make a chain and return its name."""
        return self.uses.chain(kind, towards_guest, rules)

    def bound(self, placed: Placed) -> Bound:
        """A rule with its values."""
        return self.bounds[id(placed)]


def build(
    identity: str,
    rules: Iterable[Placed],
    sides: tuple[Side, Side],
    bounds: Mapping[int, Bound],
    features: BridgeFeatures,
) -> Shape:
    """The chains of a filter whose variables have the forms in ``bounds`` (by identity of the placed rule).

    ``sides`` are the link-layer rules from the guest and to it. Raises ``Invalid`` and ``Unsupported``.
    """
    work = _Work(identity, bounds, features)
    network = [work.bound(placed) for placed in rules if placed.layer == 3]
    for towards_guest, side in zip((False, True), sides, strict=True):
        following = _network_entry(towards_guest, network, work)
        entry = _link_entry(side, towards_guest, following, work)
        if entry:
            work.entries[TO_GUEST.name if towards_guest else FROM_GUEST.name] = entry
    return Shape(
        (*BASE.chains, *work.uses.chains.values()),
        (*BASE.sets, *work.uses.sets.values(), *(one.map for one in work.own)),
        work.entries,
        tuple(work.own),
        tuple(work.uses.warnings),
    )


def _network_entry(towards_guest: bool, rules: list[Bound], work: _Work) -> str:
    """The chain that sends IPv4 and IPv6 to their rules, "" if there are none. Its verdict is final.

    A packet in a VLAN counts as IP here, if the kernel took its tag off: rules that drop shall not be evaded.
    """
    ways: list[Statements] = []
    for version, name in ((4, "ip"), (6, "ip6")):
        chosen = [one for one in rules if one.version == version]
        where = network_entry(Flowing(version, towards_guest), work.features, chosen, work.uses)
        found = [rule for one in chosen for rule in told(one.placed, network_layer(one, where, work.uses))]
        if found or where.accepted != ACCEPT:  # what is accepted here may be answered there
            target = work.chain(name, towards_guest, [*found, (where.accepted,)])
            ways.append((match(meta("protocol"), name), goto(target)))
    return work.chain("network", towards_guest, [*ways, (ACCEPT,)]) if ways else ""


def _link_entry(side: Side, towards_guest: bool, following: str, work: _Work) -> str:
    """The root chain, which ends with the network layer; the latter alone if there is no link-layer rule."""
    accepted = goto(following) if following else ACCEPT
    rules: list[Statements] = []
    for item in side.root:
        if isinstance(item, Jump):
            rules += _enter(item.chain, side.chains[item.chain], towards_guest, accepted, work)
        else:
            rules += told(item, link_layer(work.bound(item), towards_guest, None, True, accepted, work.uses))
    if not rules:
        return following
    return work.chain("root", towards_guest, [*rules, *([(accepted,)] if following else [])])


def _enter(
    chain: str, members: tuple[Placed, ...], towards_guest: bool, accepted: Json, work: _Work
) -> list[Statements]:
    """Rules that enter a chain: by name if ports share it, else through a map keyed by the interface."""
    bounds = [work.bound(placed) for placed in members]
    if any(bound.form.own_chain for bound in bounds):
        map_ = Set("bridge", f"private_{digest((work.identity, towards_guest, chain))}", ("ifname",), data="verdict")
        work.own.append(OwnChain(map_, chain, towards_guest, members, accepted))
        return [(*_guard(chain), vmap(interface(towards_guest), map_.name))]
    rules = _chain_rules(chain, bounds, towards_guest, accepted, work.uses)
    return [(*_guard(chain), jump(work.chain(chain, towards_guest, rules)))] if rules else []


def _chain_rules(
    chain: str, bounds: Iterable[Bound], towards_guest: bool, accepted: Json, uses: Uses
) -> list[Statements]:
    kind = chain_ethertype(chain)
    return [
        rule
        for bound in bounds
        for rule in told(bound.placed, link_layer(bound, towards_guest, kind, False, accepted, uses))
    ]


def own_chain(own: OwnChain, bounds: Mapping[int, Bound], uses: Uses) -> Chain:
    """The chain of one port, with its values in ``bounds``."""
    members = [bounds[id(placed)] for placed in own.members]
    rules = _chain_rules(own.kind, members, own.towards_guest, own.accepted, uses)
    return chain_of(own.kind, own.towards_guest, rules)


def _guard(chain: str) -> tuple[Json, ...]:
    kind = chain_ethertype(chain)
    if kind is not None:
        return (ethertype(kind),)
    if chain_prefix(chain) == "stp":
        return (match(payload("ether", "daddr"), STP_ADDRESS),)
    return ()
