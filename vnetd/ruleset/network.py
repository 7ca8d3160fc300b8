"""Rules of networks: forwarding verdicts, source translation, access to the host.

One set of chains serves all networks; what differs between networks are elements keyed by bridge name, so
starting one adds elements only and a packet's cost does not grow with the number of networks.

A forwarded packet passes three questions. Within one bridge: accepted. Else the network it comes from must let
it out (``from_*``) and the network it goes to must let it in (``to_*``, or ``reply_*`` for answers); both must
agree, for an accept by the destination alone would let isolated guests into routed networks.
"""

from collections.abc import Iterator
from itertools import product

from vnetd.model.base import IPNetwork
from vnetd.model.network import Mode, Nat, Network, PortRange
from vnetd.plan.rules import EMPTY, Chain, Element, Fragment, Hook, Json, Set
from vnetd.ruleset.expressions import (
    ACCEPT,
    DROP,
    REJECT,
    RETURN,
    anonymous_set,
    concat,
    in_set,
    jump,
    match,
    meta,
    payload,
    prefix,
    span,
    vmap,
)

FAMILIES = {4: ("ip", "ipv4_addr"), 6: ("ip6", "ipv6_addr")}
DEFAULT_PORTS = PortRange(start=1024, end=65535)
IIF, OIF = meta("iifname"), meta("oifname")
ESTABLISHED = match({"ct": {"key": "state"}}, ["established", "related"], "in")


def network_fragment(network: Network, bridge: str) -> Fragment:
    """Everything ``network``, whose bridge is ``bridge``, needs of table ``inet vnetd``; nothing for ``open``."""
    if not network.mode.has_bridge:
        return EMPTY
    closed = () if network.host_access is not False else (_element("no_host", bridge),)
    if network.mode is Mode.OPEN:
        return _with_base((), frozenset(closed)) if closed else EMPTY
    elements = {_element("intra", bridge, bridge), _element("guarded", bridge), *closed, *_services(network, bridge)}
    chains: list[Chain] = []
    if network.mode in {Mode.NAT, Mode.ROUTE}:
        for subnet in _subnets(network):
            elements.update(_forwarding(network, bridge, subnet))
        chains.extend(_translation_chains(network))
    return _with_base(tuple(chains), frozenset(elements))


def _with_base(chains: tuple[Chain, ...], elements: frozenset[Element]) -> Fragment:
    return Fragment(chains=(*BASE_CHAINS, *chains), sets=BASE_SETS, elements=elements)


def _element(name: str, *key: str, data: str = "") -> Element:
    return Element("inet", name, key, data)


def _services(network: Network, bridge: str) -> Iterator[Element]:
    """The network's own addresses, whose services only its own bridge and the host itself may reach."""
    for address in network.addresses:
        version, own = address.address.version, str(address.address.ip)
        yield _element(f"own{version}", own)
        yield _element(f"served{version}", bridge, own)


def _subnets(network: Network) -> set[IPNetwork]:
    """What lives behind the bridge: its own subnets and those routed through guests (a default route is none)."""
    routed = {route.destination for route in network.routes if route.destination.prefixlen}
    return {address.address.network for address in network.addresses} | routed


def _forwarding(network: Network, bridge: str, network_address: IPNetwork) -> Iterator[Element]:
    """Elements that let one subnet out and, as the mode says, in; over one uplink only if the network names one."""
    version, subnet = network_address.version, str(network_address)
    translated = _translates(network, version)
    inward = "reply" if translated else "to"
    uplinks = network.devices.interfaces[:1]
    if uplinks:
        yield _element(f"from{version}_via", bridge, uplinks[0], subnet)
        yield _element(f"{inward}{version}_via", uplinks[0], bridge, subnet)
    else:
        yield _element(f"from{version}", bridge, subnet)
        yield _element(f"{inward}{version}", bridge, subnet)
    if translated:
        chain = _translation_chain(network.nat or Nat(), version).name
        yield _element(f"nat{version}", bridge, subnet, data=f"goto {chain}")


def _translates(network: Network, version: int) -> bool:
    return network.mode is Mode.NAT and (version == 4 or bool(network.nat and network.nat.ipv6))


def _translation_chains(network: Network) -> Iterator[Chain]:
    versions = {subnet.version for subnet in _subnets(network)}
    named = {}
    for version in sorted(versions):
        if _translates(network, version):
            chain = _translation_chain(network.nat or Nat(), version)
            named[chain.name] = chain
    yield from named.values()


def _translation_chain(nat: Nat, version: int) -> Chain:
    """The chain of one way to translate; networks with equal parameters share it.

    Multicast and broadcast keep their source, as does what goes back into its own bridge.
    """
    ports = nat.ports if nat.ports and nat.ports.end else DEFAULT_PORTS
    suffix = f"{ports.start}-{ports.end}"
    name, source = f"masquerade-{suffix}", {}
    verb = "masquerade"
    if nat.address and version == 4:
        first, last = str(nat.address.start), str(nat.address.end)
        name, verb = f"snat-{first}-{last}-{suffix}", "snat"
        source = {"family": "ip", "addr": first if first == last else span(first, last)}
    with_ports = {verb: {**source, "port": _span_or_one(ports)}}
    rules: list[tuple[Json, ...]] = [
        (match(payload("ip", "daddr"), anonymous_set(prefix("224.0.0.0", 24), "255.255.255.255")), RETURN),
        (match(payload("ip6", "daddr"), prefix("ff02::", 16)), RETURN),
        (in_set(concat(IIF, OIF), "intra"), RETURN),
        (match(meta("l4proto"), "tcp"), with_ports),
        (match(meta("l4proto"), "udp"), with_ports),
        ({verb: source or None},),
    ]
    return Chain("inet", name, tuple(rules))


def _span_or_one(ports: PortRange) -> Json:
    return ports.start if ports.start == ports.end else span(ports.start, ports.end)


def _subnet_rules(name: str, near: Json, far: Json, field: str, *verdict: Json) -> Iterator[tuple[Json, ...]]:
    """Rules that look a subnet up, without and with a named uplink, for both families."""
    pair = (near, far) if field == "saddr" else (far, near)
    for version, (protocol, _) in FAMILIES.items():
        yield (in_set(concat(near, payload(protocol, field)), f"{name}{version}"), *verdict)
        yield (in_set(concat(*pair, payload(protocol, field)), f"{name}{version}_via"), *verdict)


BASE_CHAINS = (
    Chain(
        "inet",
        "forward",
        (
            (in_set(concat(IIF, OIF), "intra"), ACCEPT),
            (in_set(IIF, "guarded"), jump("from_guest")),
            (in_set(OIF, "guarded"), jump("to_guest")),
        ),
        Hook("filter", "forward", 0),
    ),
    Chain("inet", "from_guest", (*_subnet_rules("from", IIF, OIF, "saddr", RETURN), (REJECT,))),
    Chain(
        "inet",
        "to_guest",
        (
            *_subnet_rules("to", OIF, IIF, "daddr", ACCEPT),
            *((ESTABLISHED, *rule) for rule in _subnet_rules("reply", OIF, IIF, "daddr", ACCEPT)),
            (REJECT,),
        ),
    ),
    Chain(
        "inet",
        "postrouting",
        tuple(
            (vmap(concat(IIF, payload(protocol, "saddr")), f"nat{version}"),)
            for version, (protocol, _) in FAMILIES.items()
        ),
        Hook("nat", "postrouting", 100),
    ),
    Chain(
        "inet",
        "input",
        (
            (in_set(IIF, "no_host"), jump("host_closed")),
            (in_set(payload("ip", "daddr"), "own4"), jump("to_services")),
            (in_set(payload("ip6", "daddr"), "own6"), jump("to_services")),
        ),
        Hook("filter", "input", 0),
    ),
    # DNS and TFTP of a network are for its guests and the host: dnsmasq itself does not look where a query came in.
    Chain(
        "inet",
        "to_services",
        (
            (match(IIF, "lo"), RETURN),
            (in_set(concat(IIF, payload("ip", "daddr")), "served4"), RETURN),
            (in_set(concat(IIF, payload("ip6", "daddr")), "served6"), RETURN),
            (match(payload("udp", "dport"), anonymous_set(53, 69)), DROP),
            (match(payload("tcp", "dport"), 53), DROP),
        ),
    ),
    Chain(
        "inet",
        "host_closed",
        (
            (match(payload("udp", "dport"), anonymous_set(67, 547)), ACCEPT),
            (
                match(
                    payload("icmpv6", "type"),
                    anonymous_set("nd-router-solicit", "nd-neighbor-solicit", "nd-neighbor-advert"),
                ),
                ACCEPT,
            ),
            (REJECT,),
        ),
    ),
)

BASE_SETS = (
    Set("inet", "intra", ("ifname", "ifname")),
    Set("inet", "guarded", ("ifname",)),
    Set("inet", "no_host", ("ifname",)),
    *(Set("inet", f"own{version}", (kind,)) for version, (_, kind) in FAMILIES.items()),
    *(Set("inet", f"served{version}", ("ifname", kind)) for version, (_, kind) in FAMILIES.items()),
    *(
        Set("inet", f"{name}{version}{via}", (*("ifname",) * (2 if via else 1), kind), flags=("interval",))
        for name, (version, (_, kind)), via in product(("from", "to", "reply"), FAMILIES.items(), ("", "_via"))
    ),
    *(
        Set("inet", f"nat{version}", ("ifname", kind), data="verdict", flags=("interval",))
        for version, (_, kind) in FAMILIES.items()
    ),
)

BASE = Fragment(chains=BASE_CHAINS, sets=BASE_SETS)
"""What all networks share."""
