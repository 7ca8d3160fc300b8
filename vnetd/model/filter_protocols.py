"""Which attributes each protocol element of a filter rule has, in libvirt's order, and whose sign they follow."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from vnetd.model import filter_values as kinds
from vnetd.model.filter_values import Kind

U8, U16, U32 = (kinds.number(0, (1 << bits) - 1) for bits in (8, 16, 32))


@dataclass(frozen=True, slots=True)
class Protocol:
    """``layer`` 2 for link-layer rules, 3 for those libvirt gives to ip(6)tables; ``version`` of IP there.

    ``signs`` maps an attribute to the one whose ``match='no'`` counts for it.
    """

    name: str
    layer: int
    attributes: Mapping[str, Kind]
    signs: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    version: int = 0
    number: int | None = None

    @property
    def has_ports(self) -> bool:
        """Whether rules of this protocol can name ports."""
        return "srcportstart" in self.attributes


MAC4: dict[str, Kind] = {
    "srcmacaddr": kinds.mac,
    "srcmacmask": kinds.mac_mask,
    "dstmacaddr": kinds.mac,
    "dstmacmask": kinds.mac_mask,
}
COMMENT: dict[str, Kind] = {"comment": kinds.comment}
PORTS: dict[str, Kind] = {name: U16 for name in ("srcportstart", "srcportend", "dstportstart", "dstportend")}
DSCP = kinds.number(0, 63)
MAC_SIGNS = {"srcmacmask": "srcmacaddr", "dstmacmask": "dstmacaddr"}
IP_SIGNS = {"srcipmask": "srcipaddr", "dstipmask": "dstipaddr"}


def _addresses(version: int) -> dict[str, Kind]:
    address, mask = (kinds.ipv4, kinds.ipv4_mask) if version == 4 else (kinds.ipv6, kinds.ipv6_mask)
    return {"srcipaddr": address, "srcipmask": mask, "dstipaddr": address, "dstipmask": mask}


def _ip(version: int) -> Protocol:
    icmp: dict[str, Kind] = {name: U8 for name in ("type", "typeend", "code", "codeend")}
    return Protocol(
        "ip" if version == 4 else "ipv6",
        2,
        {
            **MAC4,
            **_addresses(version),
            "protocol": kinds.named(kinds.PROTOCOL_NUMBERS, 0, 255),
            **PORTS,
            **({"dscp": DSCP} if version == 4 else icmp),
            **COMMENT,
        },
        MAC_SIGNS
        | IP_SIGNS
        | {"srcportend": "srcportstart", "dstportend": "dstportstart"}
        | ({"typeend": "type", "code": "type", "codeend": "type"} if version == 6 else {}),
        version,
    )


def _arp(name: str) -> Protocol:
    attributes: dict[str, Kind] = {
        **MAC4,
        "hwtype": U16,
        "protocoltype": U16,
        "opcode": kinds.named(kinds.OPCODES, 0, 65535),
        "arpsrcmacaddr": kinds.mac,
        "arpdstmacaddr": kinds.mac,
        "arpsrcipaddr": kinds.ipv4,
        "arpsrcipmask": kinds.ipv4_mask,
        "arpdstipaddr": kinds.ipv4,
        "arpdstipmask": kinds.ipv4_mask,
        "gratuitous": kinds.boolean,
        **COMMENT,
    }
    return Protocol(name, 2, attributes, MAC_SIGNS | {"arpsrcipmask": "arpsrcipaddr", "arpdstipmask": "arpdstipaddr"})


def _l3(name: str, version: int, number: int | None, extra: dict[str, Kind] | None = None) -> Protocol:
    base = _addresses(version)
    address = base["srcipaddr"]
    attributes: dict[str, Kind] = {
        "srcmacaddr": kinds.mac,
        **base,
        "srcipfrom": address,
        "srcipto": address,
        "dstipfrom": address,
        "dstipto": address,
        "dscp": DSCP,
        "connlimit-above": U16,
        "state": kinds.states,
        "ipset": kinds.ipset_name,
        "ipsetflags": kinds.ipset_flags,
        **(extra or {}),
        **COMMENT,
    }
    ports = {name: "srcportstart" for name in ("srcportend", "dstportstart", "dstportend")}
    signs = IP_SIGNS | {"srcipto": "srcipfrom", "dstipto": "dstipfrom"}
    if extra and "type" in extra:
        signs |= {"code": "type"}
    if extra and "srcportstart" in extra:
        signs |= ports
    return Protocol(name, 3, attributes, signs, version, number)


def _l3_all() -> list[Protocol]:
    tcp: dict[str, Kind] = {**PORTS, "option": U8}
    icmp: dict[str, Kind] = {"type": U8, "code": U8}
    both = []
    for version, suffix in ((4, ""), (6, "-ipv6")):
        both += [
            _l3(f"tcp{suffix}", version, 6, {**tcp, "flags": kinds.tcp_flags}),
            _l3("icmp" if version == 4 else "icmpv6", version, 1 if version == 4 else 58, icmp),
            _l3(f"all{suffix}", version, None),
        ]
        both += [_l3(f"{name}{suffix}", version, kinds.PROTOCOL_NUMBERS[name], PORTS) for name in ("udp", "sctp")]
        both += [_l3(f"{name}{suffix}", version, kinds.PROTOCOL_NUMBERS[name]) for name in ("udplite", "esp", "ah")]
    return [*both, _l3("igmp", 4, 2)]


def _stp() -> Protocol:
    """Both ends of a range are NAME and NAME-hi. Ages and times count 1/256 s, as a BPDU has them."""
    attributes: dict[str, Kind] = {
        "srcmacaddr": kinds.mac,
        "srcmacmask": kinds.mac_mask,
        "type": U8,
        "flags": U8,
        **_range("root-priority"),
        "root-address": kinds.mac,
        "root-address-mask": kinds.mac_mask,
        **_range("root-cost", U32),
        **_range("sender-priority"),
        "sender-address": kinds.mac,
        "sender-address-mask": kinds.mac_mask,
        **_range("port"),
        **_range("age"),
        **_range("max-age"),
        **_range("hello-time"),
        **_range("forward-delay"),
        **COMMENT,
    }
    ends = {name: name.removesuffix("-hi") for name in attributes if name.endswith("-hi")}
    masks = {f"{end}-address-mask": f"{end}-address" for end in ("root", "sender")}
    return Protocol("stp", 2, attributes, {"srcmacmask": "srcmacaddr"} | ends | masks)


def _range(name: str, kind: Kind = U16) -> dict[str, Kind]:
    return {name: kind, f"{name}-hi": kind}


_MAC = Protocol("mac", 2, {**MAC4, "protocolid": kinds.named(kinds.ETHERTYPES, 0x600, 65535), **COMMENT}, MAC_SIGNS)
_VLAN = Protocol(
    "vlan",
    2,
    {
        **MAC4,
        "vlanid": kinds.number(0, 4095),
        "encap-protocol": kinds.named(kinds.ETHERTYPES, 0x3C, 65535),
        **COMMENT,
    },
    MAC_SIGNS,
)
PROTOCOLS: Mapping[str, Protocol] = MappingProxyType(
    {one.name: one for one in (_MAC, _VLAN, _stp(), _arp("arp"), _arp("rarp"), _ip(4), _ip(6), *_l3_all())}
)
PORT_PROTOCOLS = frozenset({6, 17, 132, 33})
"""IP protocols whose ports a link-layer rule may name: TCP, UDP, SCTP, DCCP."""
