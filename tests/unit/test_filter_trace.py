"""Rules explained in the filter's words, and made-up packets followed through them."""

import json
from ipaddress import ip_address

import pytest

from vnetd.model.errors import Invalid
from vnetd.model.filter import Filter
from vnetd.plan.rules import Fragment
from vnetd.ruleset.filter import compile_binding
from vnetd.ruleset.filter_chains import FROM_GUEST, TO_GUEST
from vnetd.ruleset.filter_explain import met, words
from vnetd.ruleset.filter_origin import origin_of
from vnetd.ruleset.probe import Probe, Undecidable, frame
from vnetd.ruleset.trace import Rules
from vnetd.service.probing import ask_of
from vnetd.xmlcodec.filter import filter_from_xml
from vnetd.xmlcodec.filter_builtin import builtin_filters

MAC, ROUTER = "52:54:00:00:00:61", "52:54:00:00:00:01"
GUEST, OTHER = "192.168.77.50", "192.168.77.51"
WEB = filter_from_xml(
    """<filter name='web'>
  <filterref filter='clean-traffic'/>
  <rule action='accept' direction='in' priority='400'><tcp dstportstart='80' dstportend='89'/></rule>
  <rule action='accept' direction='in' priority='410'><tcp srcipaddr='10.0.0.0' srcipmask='8' dstportstart='22'/></rule>
  <rule action='accept' direction='out' priority='420'><udp dstportstart='53'/></rule>
  <rule action='drop' direction='in' priority='900'><tcp match='no' srcipaddr='10.0.0.0' srcipmask='8'/></rule>
  <rule action='drop' direction='out' priority='1000'><all/></rule>
</filter>"""
).value
FILTERS: dict[str, Filter] = {**builtin_filters(), "web": WEB}


def bound(name: str, **parameters: str) -> Fragment:
    values = {key: (value,) for key, value in {"IP": GUEST, **parameters}.items()}
    return compile_binding(FILTERS, name, "vnet0", MAC, values).fragment


def decide(fragment: Fragment, towards: bool, source: str, target: str, kind: str, port: int, mac: str = "") -> str:
    """The verdict and the rule that decides."""
    macs = (ROUTER, MAC) if towards else (mac or MAC, ROUTER)
    made = frame(ip_address(source), ip_address(target), kind, port, *macs)
    probe = Probe(made, "", "vnet0") if towards else Probe(made, "vnet0", "")
    entry = TO_GUEST if towards else FROM_GUEST
    (start,) = [one.data.split()[1] for one in fragment.elements if one.set == entry.name]
    outcome = Rules.of(fragment, "bridge").trace(start, probe)
    told = [origin for step in outcome.trail if (origin := origin_of(step.rule))]
    return f"{outcome.verdict}: {words(told[-1], towards, {})}" if told else outcome.verdict


IN, OUT = True, False


@pytest.mark.parametrize(
    ("towards", "source", "target", "kind", "port", "decided"),
    [
        (IN, OTHER, GUEST, "tcp", 80, "accept: in accept 400: tcp dstportstart=80 dstportend=89"),
        (IN, OTHER, GUEST, "tcp", 89, "accept: in accept 400: tcp dstportstart=80 dstportend=89"),
        (IN, "10.1.2.3", GUEST, "tcp", 22, "accept: in accept 410: tcp srcipaddr=10.0.0.0 srcipmask=8 dstportstart=22"),
        (IN, OTHER, GUEST, "tcp", 22, "drop: in drop 900: tcp srcipaddr!=10.0.0.0 srcipmask!=8"),
        (IN, "10.1.2.3", GUEST, "tcp", 25, "drop: out drop 1000: all (the other way)"),
        (OUT, GUEST, OTHER, "udp", 53, "accept: out accept 420: udp dstportstart=53"),
        (OUT, GUEST, OTHER, "udp", 54, "drop: out drop 1000: all"),
        (OUT, GUEST, OTHER, "icmp", 0, "drop: out drop 1000: all"),
        (OUT, "192.168.77.66", OTHER, "udp", 53, "drop: out drop 1000"),
        (OUT, "fd77::50", "fd77::51", "udp", 53, "drop: inout drop 1000"),
    ],
)
def test_the_rule_that_decides_is_named(
    towards: bool, source: str, target: str, kind: str, port: int, decided: str
) -> None:
    assert decide(bound("web"), towards, source, target, kind, port) == decided


def test_another_mac_address_is_dropped_by_the_rule_against_it() -> None:
    assert decide(bound("web"), OUT, GUEST, OTHER, "udp", 53, mac=ROUTER) == "drop: out drop 500: mac"


def test_what_no_rule_matches_passes_without_one() -> None:
    only = filter_from_xml("<filter name='f'><rule action='drop' direction='in'><icmp/></rule></filter>").value
    fragment = compile_binding({"f": only}, "f", "vnet0", MAC, {}).fragment
    assert decide(fragment, IN, OTHER, GUEST, "tcp", 80) == "accept"
    assert decide(fragment, IN, OTHER, GUEST, "icmp", 0) == "drop: in drop 500: icmp"


def test_rules_are_told_in_the_order_packets_meet_them_with_their_values() -> None:
    fragment = bound("clean-traffic")
    values = {"IP": (GUEST,), "MAC": (MAC,)}
    out = [words(one.origin, False, values) for one in met(fragment, "vnet0", False)]
    assert out == [
        f"out return 500: mac srcmacaddr=$MAC({MAC})",
        "out drop 500: mac",
        "out return 100: ip srcipaddr=0.0.0.0 protocol=udp",
        f"out return 500: ip srcipaddr=$IP({GUEST})",
        "out drop 1000",
        "out accept -650: mac protocolid=ipv4",
        f"out return 350: arp arpsrcmacaddr=$MAC({MAC})",
        "out drop 1000",
        f"out return 400: arp arpsrcipaddr=$IP({GUEST})",
        "out drop 1000",
        "inout accept -500: mac protocolid=arp",
        *[one for one in out if "rarp" in one],
        "inout drop 1000",
        "out accept 500: mac protocolid=0x835",
        "inout drop 1000",
    ]
    towards = [words(one.origin, True, values) for one in met(fragment, "vnet0", True)]
    assert towards[0] == "in accept 500" and towards[-1] == "inout drop 1000"


def test_rules_of_the_network_layer_come_after_the_link_layer_and_say_which_way_they_are() -> None:
    told = [words(one.origin, True, {}) for one in met(bound("web"), "vnet0", True)]
    assert told.index("in accept 500") < told.index("in accept 400: tcp dstportstart=80 dstportend=89")
    assert "out accept 420: udp dstportstart=53 (the other way)" in told


@pytest.mark.parametrize("name", sorted(builtin_filters()))
def test_every_built_in_filter_can_be_followed(name: str) -> None:
    parameters = {
        "IPV6": "fd77::50",
        "GATEWAY_MAC": ROUTER,
        "DHCPSERVER": "fd77::1" if "v6" in name else "192.168.77.1",
    }
    fragment = bound(name, **parameters)
    entries = {one.set for one in fragment.elements}
    for towards, entry in ((IN, TO_GUEST.name), (OUT, FROM_GUEST.name)):
        if entry in entries:
            for ends in ((GUEST, OTHER), ("fd77::50", "fd77::51")):
                assert decide(fragment, towards, *ends, "udp", 67).split(":")[0] in {"", "accept", "drop"}


def field(protocol: str, name: str) -> dict[str, object]:
    return {"payload": {"protocol": protocol, "field": name}}


CT: dict[str, object] = {"ct": {"key": "state"}}
SOME = {"set": ["10.0.0.1", {"prefix": {"addr": "192.168.0.0", "len": 16}}]}
RAW: dict[str, object] = {"payload": {"base": "nh", "offset": 96, "len": 32}}


@pytest.mark.parametrize(
    ("op", "left", "right", "matches"),
    [
        ("==", field("tcp", "dport"), {"range": [1, 90]}, True),
        ("in", field("tcp", "flags"), "syn", True),
        ("in", CT, ["established", "related"], False),
        ("in", CT, ["new"], True),
        ("!=", {"meta": {"key": "iifname"}}, "virbr*", False),
        ("==", field("udp", "dport"), 80, False),
        ("==", field("ip", "saddr"), SOME, True),
        ("!=", field("ip", "daddr"), {"prefix": {"addr": "192.168.77.0", "len": 24}}, False),
        ("==", RAW, 3232255282, True),
        ("==", {"concat": [field("ip", "saddr"), field("tcp", "dport")]}, {"concat": [GUEST, 80]}, True),
    ],
)
def test_rules_of_other_programs_are_followed_as_they_are_listed(
    op: str, left: dict[str, object], right: object, matches: bool
) -> None:
    rule = [{"match": {"op": op, "left": left, "right": right}}]
    made = frame(ip_address(GUEST), ip_address(OTHER), "tcp", 80, MAC, ROUTER)
    chains = {"forward": ((*rule, {"counter": {"packets": 1, "bytes": 2}}, {"drop": None}),)}
    outcome = Rules(chains).trace("forward", Probe(made, "virbr0", "eth0"))
    assert outcome.verdict == ("drop" if matches else ""), json.dumps(rule)


@pytest.mark.parametrize("statement", [{"xt": None}, {"match": {"op": "==", "left": {"fib": {}}, "right": 1}}])
def test_what_cannot_be_told_is_said(statement: object) -> None:
    made = frame(ip_address(GUEST), ip_address(OTHER), "tcp", 80, MAC, ROUTER)
    with pytest.raises(Undecidable):
        Rules({"input": ((statement, {"drop": None}),)}).trace("input", Probe(made))


@pytest.mark.parametrize(
    ("probe", "words"),
    [
        ({"to": "here"}, "to: 'here'"),
        ({"to": OTHER, "from": OTHER}, "not both"),
        ({"protocol": "tcp"}, "give to or from"),
        ({"to": OTHER, "protocol": "sctp"}, "tcp, udp and icmp"),
        ({"to": OTHER, "protocol": "tcp"}, "from 1 to 65535"),
        ({"to": OTHER, "port": 5}, "icmp has none"),
        ({"at": OTHER}, "unknown option 'at'"),
    ],
)
def test_a_probe_that_cannot_be_is_refused(probe: dict[str, str | int], words: str) -> None:
    with pytest.raises(Invalid, match=words):
        ask_of(probe)
