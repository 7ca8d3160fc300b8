"""Rules of filters are written as libnftables lists them: else what vnetd wrote itself would look like drift."""

from collections.abc import AsyncIterator, Sequence

import pytest

from vnetd.linux.nft import LinuxNft
from vnetd.plan.drift import same_definition, union
from vnetd.plan.ledger import Ledger
from vnetd.plan.listing import same_rules
from vnetd.plan.rules import EMPTY, Family, Fragment
from vnetd.ruleset.filter import compile_binding
from vnetd.ruleset.unbridged import entrance, unbridged
from vnetd.xmlcodec.filter import filter_from_xml
from vnetd.xmlcodec.filter_builtin import builtin_filters

MAC, MASK = "52:54:00:00:00:01", "ff:ff:ff:00:00:00"
VALUES: dict[str, Sequence[str]] = {
    "IP": ["10.0.0.1", "10.0.0.2"],
    "ONE": ["10.0.0.1"],
    "IPV6": ["fd00::1", "fd00::2"],
    "PORT": ["80", "443"],
    "MACS": [MAC, "52:54:00:00:00:02"],
    "GATEWAY_MAC": [MAC],
    "NUMBERS": ["1", "3"],
}
MACS = [
    f"srcmacaddr='{MAC}'",
    f"dstmacaddr='{MAC}'",
    f"srcmacaddr='{MAC}' dstmacaddr='{MAC}'",
    f"srcmacaddr='{MAC}' srcmacmask='{MASK}'",
    f"dstmacaddr='{MAC}' dstmacmask='fe:00:00:00:00:00' srcmacaddr='{MAC}' srcmacmask='ff:ff:ff:ff:ff:ff'",
    "srcmacaddr='$MAC'",
    "srcmacaddr='$MACS' dstmacaddr='$MACS'",
]
IPV4 = [
    "srcipaddr='10.0.0.1'",
    "srcipaddr='10.0.0.1' dstipaddr='10.0.0.2'",
    "srcipaddr='10.0.0.1' srcipmask='24' dstipaddr='224.0.0.0' dstipmask='4'",
    "srcipaddr='10.0.0.1' srcipmask='0'",
    "srcipaddr='10.0.0.1' srcipmask='32'",
    "srcipaddr='$IP'",
    "srcipaddr='$IP' dstipaddr='$ONE[@3]'",
    "srcipaddr='$IP' srcipmask='9'",
]
IPV6 = [
    "srcipaddr='fd00::1' dstipaddr='fd00::2'",
    "srcipaddr='fd00::1' srcipmask='10'",
    "srcipaddr='fd00::1' srcipmask='64' dstipaddr='ff00::' dstipmask='8'",
    "srcipaddr='$IPV6'",
    "srcipaddr='$IPV6' dstipaddr='$IPV6'",
]
PORTS = [
    "srcportstart='1024'",
    "dstportstart='80' dstportend='80'",
    "srcportstart='1' srcportend='65535' dstportstart='80'",
    "srcportstart='$PORT'",
    "srcportstart='$PORT' dstportstart='$PORT[@1]'",
]
ARP = [
    "hwtype='1'",
    "protocoltype='0x800'",
    "opcode='InARP_Request'",
    "opcode='DRARP_Request'",
    "opcode='$NUMBERS'",
    f"arpsrcmacaddr='{MAC}' arpdstmacaddr='{MAC}'",
    "arpsrcipaddr='10.0.0.1' arpdstipaddr='10.0.0.2'",
    "arpsrcipaddr='10.0.0.1' arpsrcipmask='8'",
    f"{MACS[2]} hwtype='1' protocoltype='2048' opcode='2' arpsrcmacaddr='{MAC}' arpdstmacaddr='{MAC}' "
    "arpsrcipaddr='10.0.0.1' arpdstipaddr='10.0.0.2'",
    "arpsrcipaddr='$IP' arpsrcmacaddr='$MACS'",
    "gratuitous='true'",
    "gratuitous='yes' opcode='1'",
]
VLAN = [
    "vlanid='5'",
    "encap-protocol='ipv4'",
    "encap-protocol='0x1234'",
    "vlanid='0xfff' encap-protocol='arp'",
    f"{MACS[2]} vlanid='0'",
    f"{MACS[0]} encap-protocol='vlan'",
]
STP = [
    "type='0'",
    "type='128' flags='1'",
    f"{MACS[0]} type='0' flags='0x80' root-priority='1' root-address='{MAC}' root-cost='4'",
    "root-priority='1' root-priority-hi='9'",
    "root-priority-hi='9'",
    f"root-address='{MAC}' root-address-mask='{MASK}' sender-address='{MAC}' sender-address-mask='{MASK}'",
    "root-cost='1' root-cost-hi='0xffffffff'",
    f"sender-priority='1' sender-address='{MAC}' port='1' age='2' max-age='3' hello-time='4' forward-delay='5'",
    "port='1' port-hi='2' age='2' age-hi='3' max-age-hi='9' hello-time-hi='4' forward-delay='5' forward-delay-hi='6'",
]
FLAGS = [
    f"flags='{one}'"
    for one in ("SYN,ACK/SYN", "SYN/ALL", "ALL/NONE", "ALL/SYN", "ALL/ALL", "NONE/NONE", "FIN,SYN/FIN,SYN", "RST/RST")
]
IPV4_ONLY = ["dscp='10'", "dscp='63'", f"{MACS[2]} {IPV4[1]} protocol='udp' {PORTS[2]} dscp='0'"]
IPV6_ONLY = [
    "protocol='icmpv6' type='128'",
    "protocol='icmpv6' type='133' typeend='136'",
    "protocol='icmpv6' type='1' code='0' codeend='3'",
    "protocol='icmpv6' codeend='4'",
    "protocol='icmpv6' typeend='255'",
]
BY_PROTOCOL = [f"protocol='{name}'" for name in ("tcp", "udp", "icmp", "icmpv6", "esp", "33", "253", "igmp", "ah")]
L2_PORTS = [f"protocol='{name}' {ports}" for name in ("tcp", "udp", "sctp", "33") for ports in PORTS]
L3 = [f"srcmacaddr='{MAC}'", "dscp='46'", f"srcmacaddr='{MAC}' {IPV4[1]} dscp='8'", "srcmacaddr='$MAC'"]
RANGES = [
    "srcipfrom='10.0.0.1' srcipto='10.0.0.9'",
    "srcipfrom='10.0.0.0' srcipto='10.0.0.255'",
    "dstipfrom='10.0.0.1'",
    "dstipfrom='10.0.0.1' dstipto='10.0.0.1'",
]


def layer3(version: int) -> list[str]:
    suffix, addresses = ("", IPV4) if version == 4 else ("-ipv6", IPV6)
    names = [f"{name}{suffix}" for name in ("tcp", "udp", "sctp", "udplite", "esp", "ah", "all")]
    names += ["icmp", "igmp"] if version == 4 else ["icmpv6"]
    with_ports = [f"{name}{suffix} {ports}" for name in ("tcp", "udp", "sctp") for ports in PORTS]
    bare = [f"{name} {attributes}" for name in names for attributes in ("", *addresses, *(L3 if version == 4 else ()))]
    icmp = "icmp" if version == 4 else "icmpv6"
    types = range(0, 19) if version == 4 else (*range(1, 5), *range(128, 144))
    icmps = [f"{icmp} type='{kind}'" for kind in types] + [f"{icmp} type='3' code='{code}'" for code in range(0, 16)]
    icmps += [f"{icmp} code='3'"]
    tcp = [f"tcp{suffix} {flags} {more}" for flags in FLAGS for more in ("", PORTS[1], "option='30'")]
    tcp += [f"tcp{suffix} option='{kind}'" for kind in (0, 1, 2, 3, 4, 5, 8, 19, 30, 34, 77, 254)]
    mixed = [f"tcp{suffix} {address} {ports}" for address in addresses for ports in PORTS]
    ranges = [f"tcp {one} dstportstart='80'" for one in RANGES] if version == 4 else []
    return with_ports + bare + icmps + tcp + mixed + ranges


KINDS = {
    "mac": [f"mac {one}" for one in ("", *MACS)]
    + [f"mac {MACS[2]} protocolid='{one}'" for one in ("arp", "rarp", "ipv4", "ipv6", "vlan", "0x835", "0x88a8")],
    "vlan": [f"vlan {one}" for one in ("", *MACS, *VLAN)],
    "stp": [f"stp {one}" for one in ("", *STP)],
    "arp": [f"arp {one}" for one in ("", *MACS, *ARP)],
    "rarp": [f"rarp {one}" for one in ("", *MACS, *ARP)],
    "ip": [f"ip {one}" for one in ("", *MACS, *IPV4, *BY_PROTOCOL, *L2_PORTS, *IPV4_ONLY)],
    "ipv6": [f"ipv6 {one}" for one in ("", *MACS, *IPV6, *BY_PROTOCOL, *L2_PORTS, *IPV6_ONLY)],
    "network layer, IPv4": layer3(4),
    "network layer, IPv6": layer3(6),
}
CHAINS = {"mac": "mac", "vlan": "vlan", "stp": "stp", "arp": "arp", "rarp": "rarp", "ip": "ipv4", "ipv6": "ipv6"}


@pytest.fixture
async def nft() -> AsyncIterator[LinuxNft]:
    linux = LinuxNft()
    await linux.open()
    yield linux
    await linux.close()


def compiled(match: str, action: str, direction: str, sign: str, chain: str) -> Fragment | None:
    """The rules of one match; ``None`` for a combination that is refused before it is bound."""
    element = f"<{match} match='no'/>" if sign else f"<{match}/>"
    text = f"<filter name='f' chain='{chain}'><rule action='{action}' direction='{direction}'>{element}</rule></filter>"
    one = filter_from_xml(text).value
    return compile_binding({"f": one}, "f", "vnet0", MAC, VALUES).fragment


def negatable(match: str) -> bool:
    """Ports and types need a protocol that is not negated."""
    return not match.startswith(("ip ", "ipv6 ")) or not any(word in match for word in ("port", "type", "code"))


def merged(parts: list[Fragment]) -> Fragment:
    chains = {one.name: one for part in parts for one in part.chains}
    sets = {one.name: one for part in parts for one in part.sets}
    return Fragment(tuple(chains.values()), tuple(sets.values()))


async def assert_listed_as_written(nft: LinuxNft, part: Fragment, family: Family = "bridge") -> None:
    await nft.commit(EMPTY, part)
    listed = await nft.table(family)
    assert listed is not None
    both = [(one.rules, listed.chains[one.name]) for one in part.chains]
    wrong = [(written, shown) for written, shown in both if not same_rules(written, shown)]
    assert not wrong, f"{len(wrong)} chains differ; the first: written {wrong[0][0]}, listed {wrong[0][1]}"
    assert {one.name: one.hook for one in part.chains if one.hook} == listed.hooks
    assert all(same_definition(one, listed.definitions[one.name]) for one in part.sets)
    assert {name: listed.sets[name] for name in listed.sets if listed.sets[name]} == {
        name: frozenset(one for one in part.elements if one.set == name) for name in {one.set for one in part.elements}
    }


@pytest.mark.parametrize("action", ["drop", "accept"])
@pytest.mark.parametrize("kind", KINDS)
async def test_every_kind_of_rule_is_listed_as_it_was_written(nft: LinuxNft, kind: str, action: str) -> None:
    parts = []
    for match in KINDS[kind]:
        for direction in ("out", "in", "inout"):
            if direction == "inout" and match.startswith("stp srcmacaddr"):
                continue
            for chain in sorted({"root", CHAINS.get(kind, "root")}):
                parts.append(compiled(match, action, direction, "", chain))
                if negatable(match) and "=" in match:
                    parts.append(compiled(match, action, direction, "no", chain))
    await assert_listed_as_written(nft, merged([part for part in parts if part]))


@pytest.mark.parametrize("name", sorted(builtin_filters()))
async def test_every_built_in_filter_is_listed_as_it_was_written(nft: LinuxNft, name: str) -> None:
    server = ["fd00::1"] if "v6" in name else ["10.0.0.3"]
    parameters = {**VALUES, "DHCPSERVER": server}
    part = compile_binding(builtin_filters(), name, "vnet0", MAC, parameters).fragment
    await assert_listed_as_written(nft, part)
    await assert_listed_as_written(nft, union((unbridged(part), entrance("lo"))), "netdev")


RANGING = [
    ("ip srcipaddr='$A' srcipmask='$M'", {"A": ["10.0.0.1", "10.0.0.9", "10.9.0.1"], "M": ["24", "32", "31"]}),
    ("ipv6 srcipaddr='$A' srcipmask='64'", {"A": ["fd00::1", "fd00:0:0:1::1", "fd01::1"]}),
    ("all srcipfrom='$A' srcipto='$B'", {"A": ["10.0.0.1", "10.0.1.0"], "B": ["10.0.0.7", "10.0.1.255"]}),
    ("tcp dstportstart='$A' dstportend='$B'", {"A": ["0x16", "80"], "B": ["22", "90"]}),
    ("arp arpsrcipaddr='$A' arpsrcipmask='8' arpsrcmacaddr='$MAC'", {"A": ["10.0.0.1"]}),
    ("tcp dstportstart='$A' dstportend='9' srcipaddr='$B' srcipmask='0'", {"A": ["1"], "B": ["10.0.0.1"]}),
]


@pytest.mark.parametrize(("match", "values"), RANGING, ids=[match for match, _ in RANGING])
async def test_ranges_in_sets_are_listed_as_they_were_written(
    nft: LinuxNft, match: str, values: dict[str, list[str]]
) -> None:
    text = f"<filter name='f'><rule action='drop' direction='in'><{match}/></rule></filter>"
    filter = filter_from_xml(text).value
    part = compile_binding({"f": filter}, "f", "vnet0", MAC, values).fragment
    ledger = Ledger()
    ledger.accept(ledger.propose({"vnet0": part}))
    await nft.commit(EMPTY, part)
    listed = await nft.table("bridge")
    assert listed is not None
    assert [one.what for one in ledger.drift_table("bridge", listed).what] == []
    assert any(element.set.startswith("values_") for element in part.elements)
