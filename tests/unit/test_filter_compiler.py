"""Bound filters as nftables objects: what is shared, what is a port's own, and libvirt's tables of directions."""

from collections.abc import Sequence
from typing import Any

import pytest

from vnetd.model.errors import Invalid, Unsupported
from vnetd.plan.rules import Chain
from vnetd.ruleset.filter import BASE, Compiled, compile_binding
from vnetd.ruleset.filter_symbols import protocol
from vnetd.xmlcodec.filter import filter_from_xml
from vnetd.xmlcodec.filter_builtin import builtin_filters

MAC = "52:54:00:00:00:01"
ALL = dict(builtin_filters())


def bind(rules: str, attributes: str = "", device: str = "vnet0", **parameters: Sequence[str]) -> Compiled:
    one = filter_from_xml(f"<filter name='f' {attributes}>{rules}</filter>").value
    return compile_binding({**ALL, "f": one}, "f", device, MAC, parameters)


def rule(match: str, direction: str = "out", action: str = "drop", more: str = "") -> str:
    return f"<rule action='{action}' direction='{direction}' {more}>{match}</rule>"


def words(statement: Any) -> str:
    """One statement, short: ``tcp dport 22``, ``ip saddr != …``, ``drop``."""
    ((kind, body),) = statement.items()
    if kind == "match":
        sign = " !=" if body["op"] == "!=" else ""
        return f"{expression(body['left'])}{sign} {expression(body['right'])}"
    if kind == "set":
        return f"note {body['set'].removeprefix('@')}"
    return str(kind)


def expression(value: Any) -> str:
    if not isinstance(value, dict):
        return str(value).split("_")[0] if str(value).startswith("@values") else str(value)
    ((kind, body),) = value.items()
    if kind == "payload":
        return f"{body['protocol']} {body['field']}" if "field" in body else f"{body['base']}+{body['offset']}"
    if kind == "meta":
        return str(body["key"])
    if kind == "concat":
        return " . ".join(map(expression, body))
    if kind == "prefix":
        return f"{body['addr']}/{body['len']}"
    if kind == "range":
        return "-".join(map(str, body))
    return "&".join(map(str, map(expression, body)))


def chains(compiled: Compiled, start: str) -> list[list[str]]:
    """Rules of the chains whose names begin so, in words."""
    found = [one for one in compiled.fragment.chains if one.name.startswith(start)]
    return [[" ".join(words(statement) for statement in one) for one in chain.rules] for chain in found]


def network_rules(rules: str, **parameters: Sequence[str]) -> tuple[list[str], list[str]]:
    """IPv4 rules from the guest and to it without the final accept."""
    compiled = bind(rules, **parameters)
    both = [chains(compiled, side) for side in ("from_ip_", "to_ip_")]
    return tuple(found[0][:-1] if found else [] for found in both)  # type: ignore[return-value]


def root_rules(rules: str, **parameters: Sequence[str]) -> tuple[list[str], list[str]]:
    """Rules of the root chains."""
    compiled = bind(rules, **parameters)
    return tuple((chains(compiled, side) or [[]])[0] for side in ("from_root", "to_root"))  # type: ignore[return-value]


# The table of 7.5: rows are direction and action, columns from the guest and to it.


def test_a_dropping_rule_holds_both_ways_with_addresses_swapped() -> None:
    match = "<tcp srcipaddr='10.0.0.1' dstportstart='22'/>"
    straight, swapped = "ip saddr 10.0.0.1 tcp dport 22 drop", "ip daddr 10.0.0.1 tcp sport 22 drop"
    assert network_rules(rule(match, "out")) == ([straight], [swapped])
    assert network_rules(rule(match, "in")) == ([swapped], [straight])
    assert network_rules(rule(match, "inout")) == ([swapped], [straight])


def test_an_accepting_rule_notes_originals_and_looks_replies_up() -> None:
    match = "<udp dstportstart='53'/>"
    key = "ip daddr . ip saddr . udp dport . udp sport"
    original = "udp dport 53 note flows_udp4_{} accept"
    reply = "udp sport 53 {} . {} @flows_udp4_{} note flows_udp4_{} accept"
    assert network_rules(rule(match, "out", "accept")) == (
        [original.format("out")],
        [reply.format("oifname", key, "out", "out")],
    )
    assert network_rules(rule(match, "in", "accept")) == (
        [reply.format("iifname", key, "in", "in")],
        [original.format("in")],
    )


def test_both_directions_or_no_state_matching_mean_no_state() -> None:
    match = "<udp dstportstart='53'/>"
    both = (["udp sport 53 accept"], ["udp dport 53 accept"])
    assert network_rules(rule(match, "inout", "accept")) == both
    assert network_rules(rule(match, "in", "accept", "statematch='0'")) == both


def test_accepting_everything_tells_connections_of_each_protocol_apart() -> None:
    from_guest, to_guest = network_rules(rule("<all/>", "out", "accept"))
    assert from_guest == [f"note flows_{name}4_out accept" for name in ("tcp", "udp", "sctp", "ip")]
    assert len(to_guest) == 4 and all("@flows" in one for one in to_guest)


def test_return_ends_the_network_layer_and_continue_does_nothing() -> None:
    # Without /etc/protocols, which a bare system lacks, protocols have no names.
    assert network_rules(rule("<tcp/>", "out", "return"))[0] == [f"ip protocol {protocol(6)} accept"]
    assert bind(rule("<tcp/>", "out", "continue")).fragment.elements == frozenset()


def test_an_icmp_type_is_matched_one_way_only() -> None:
    assert network_rules(rule("<icmp type='8'/>", "out", "accept")) == (["icmp type echo-request accept"], [])
    assert network_rules(rule("<icmp type='3' code='4'/>", "in", "accept")) == (
        [],
        ["icmp type destination-unreachable icmp code 4 accept"],
    )
    compiled = bind(rule("<icmp type='8'/>", "inout"))
    assert compiled.fragment.elements == frozenset()
    assert "no effect" in compiled.warnings[0]


def test_an_echo_reply_is_accepted_only_after_its_request() -> None:
    from_guest, to_guest = network_rules(rule("<icmp type='0'/>", "in", "accept"))
    assert from_guest == ["icmp type echo-request note flows_ip4_out"]
    assert to_guest == ["icmp type echo-reply oifname . ip daddr . ip saddr . ip protocol @flows_ip4_out accept"]


def test_the_source_mac_is_left_out_where_it_would_be_the_destinations() -> None:
    assert network_rules(rule(f"<tcp srcmacaddr='{MAC}' dstportstart='22'/>", "out")) == (
        [f"tcp dport 22 ether saddr {MAC} drop"],
        ["tcp sport 22 drop"],
    )
    assert network_rules(rule(f"<all srcmacaddr='{MAC}'/>", "out")) == ([f"ether saddr {MAC} drop"], [])


def test_reject_is_drop_with_a_warning() -> None:
    for match in ("<tcp/>", "<mac/>"):
        assert "reject" in bind(rule(match, "out", "reject")).warnings[0]


# Link layer


def test_only_inout_rules_are_swapped_at_the_link_layer_and_only_from_the_guest() -> None:
    match = f"<ip srcmacaddr='{MAC}' srcipaddr='10.0.0.1' protocol='tcp' dstportstart='22'/>"
    straight = f"ip saddr 10.0.0.1 tcp dport 22 ether saddr {MAC} ether type ip drop"
    swapped = f"ip daddr 10.0.0.1 tcp sport 22 ether daddr {MAC} ether type ip drop"
    assert root_rules(rule(match, "out")) == ([straight], [])
    assert root_rules(rule(match, "in")) == ([], [straight])
    assert root_rules(rule(match, "inout")) == ([swapped], [straight])


def test_arp_fields_are_swapped_but_the_opcode_is_not() -> None:
    match = f"<arp opcode='Request' arpsrcmacaddr='{MAC}' arpdstipaddr='10.0.0.1'/>"
    assert root_rules(rule(match, "inout"))[0] == [
        f"arp operation request arp saddr ip 10.0.0.1 arp daddr ether {MAC} ether type arp drop"
    ]


def test_link_layer_acceptance_leads_on_to_the_network_layer() -> None:
    rules = rule("<mac protocolid='ipv4'/>", "out", "accept") + rule("<tcp/>", "out")
    assert root_rules(rules)[0] == ["ether type ip goto", "goto"]
    assert root_rules(rule("<mac protocolid='ipv4'/>", "out", "accept"))[0] == ["ether type ip accept"]


def test_return_leaves_a_chain_of_its_own_and_ends_the_root_chain() -> None:
    assert root_rules(rule("<mac/>", "out", "return"))[0] == ["accept"]
    compiled = bind(rule("<mac/>", "out", "return"), "chain='mac'")
    assert chains(compiled, "from_mac") == [["return"]]
    assert chains(compiled, "from_root") == [["jump"]]


def test_a_rule_without_protocol_means_every_frame() -> None:
    assert root_rules(rule("", "inout")) == (["drop"], ["drop"])


def test_icmpv6_ranges_of_link_layer_rules_have_open_ends() -> None:
    def of(attributes: str) -> str:
        return root_rules(rule(f"<ipv6 protocol='icmpv6' {attributes}/>"))[0][0]

    assert of("type='128'") == "icmpv6 type echo-request ether type ip6 drop"
    assert of("typeend='4'") == "icmpv6 type 0-parameter-problem ether type ip6 drop"
    assert of("type='1' typeend='4' codeend='1'").startswith(
        "icmpv6 type destination-unreachable-parameter-problem icmpv6 code 0-1"
    )


# Variables


def own(compiled: Compiled) -> set[tuple[str, ...]]:
    """Elements of the sets of values."""
    return {one.key for one in compiled.fragment.elements if one.set.startswith("values_")}


def test_values_are_elements_keyed_by_the_interface() -> None:
    compiled = bind(rule("<tcp srcipaddr='$IP' dstportstart='$PORT[@1]'/>"), IP=["10.0.0.1", "10.0.0.2"], PORT=["22"])
    assert own(compiled) == {("vnet0", "10.0.0.1"), ("vnet0", "10.0.0.2"), ("vnet0", "22")}
    assert chains(compiled, "from_ip_")[0][0] == "iifname . ip saddr @values iifname . tcp dport @values drop"
    assert chains(compiled, "to_ip_")[0][0] == "oifname . ip daddr @values oifname . tcp sport @values drop"


def test_values_in_step_are_looked_up_together() -> None:
    compiled = bind(rule("<tcp srcipaddr='$IP' dstportstart='$PORT'/>"), IP=["10.0.0.1", "10.0.0.2"], PORT=["1", "2"])
    assert own(compiled) == {("vnet0", "10.0.0.1", "1"), ("vnet0", "10.0.0.2", "2")}


def test_one_negated_value_is_a_lookup_and_several_match_everything_with_a_warning() -> None:
    match = "<ip match='no' srcipaddr='$IP'/>"
    one = bind(rule(match), IP=["10.0.0.1"])
    assert chains(one, "from_root")[0] == ["iifname . ip saddr != @values ether type ip drop"]
    assert not one.warnings
    two = bind(rule(match), IP=["10.0.0.1", "10.0.0.2"])
    assert chains(two, "from_root")[0] == ["ether type ip drop"]
    assert own(two) == set()
    assert "surely a mistake" in two.warnings[0]
    again = bind(rule(match), IP=["10.0.0.1", "10.0.0.1"])
    assert chains(again, "from_root") == chains(one, "from_root")


def test_what_a_set_cannot_say_is_spelled_out() -> None:
    masks = bind(rule("<ip srcipaddr='$IP' srcipmask='24'/>"), IP=["10.0.0.1", "10.1.0.1"])
    assert chains(masks, "from_root")[0] == [
        "ip saddr 10.0.0.0/24 ether type ip drop",
        "ip saddr 10.1.0.0/24 ether type ip drop",
    ]
    negated = bind(rule("<ip match='no' srcipaddr='$A' dstipaddr='$B'/>"), A=["10.0.0.1"], B=["10.0.0.2"])
    neither = "ip saddr != 10.0.0.1-10.0.0.1 ip daddr != 10.0.0.2-10.0.0.2"
    assert chains(negated, "from_root")[0] == [f"{neither} ether type ip drop"]


def test_a_link_layer_chain_with_values_spelled_out_is_the_only_one_a_port_has_to_itself() -> None:
    first, second = (
        compile_binding(ALL, "clean-traffic", f"vnet{n}", f"52:54:00:00:00:0{n}", {"IP": [f"10.0.0.{n}"]}).fragment
        for n in (1, 2)
    )
    named = [{one.name: one for one in part.chains} for part in (first, second)]
    different = set(named[0]) ^ set(named[1])
    assert {name.rsplit("_", 1)[0] for name in different} == {"from_rarp", "to_rarp"}
    assert all(named[0][name] == named[1][name] for name in set(named[0]) & set(named[1]))
    assert first.sets == second.sets
    assert not first.elements & second.elements


# The whole


def test_every_fragment_brings_the_chains_that_dispatch() -> None:
    compiled = bind(rule("<tcp/>"))
    assert set(BASE.sets) <= set(compiled.fragment.sets)
    assert all(chain in compiled.fragment.chains for chain in BASE.chains)
    found = {one.set: one.data.split("_")[0] for one in compiled.fragment.elements}
    assert found == {"from_guest": "goto from", "to_guest": "goto to"}


def test_names_are_short_enough_for_every_kernel_and_all_targets_exist() -> None:
    for name in ALL:
        compiled = compile_binding(
            ALL, name, "vnet0", MAC, {"IP": ["10.0.0.1"], "IPV6": ["fd00::1"], "GATEWAY_MAC": [MAC]}
            | {"DHCPSERVER": ["fd00::2" if "v6" in name else "10.0.0.2"]},
        )  # fmt: skip
        part = compiled.fragment
        names = {one.name for one in part.chains}
        assert all(len(one.name) <= 31 for one in (*part.chains, *part.sets))
        assert targets(part.chains) <= names
        assert {one.data.split(" ")[1] for one in part.elements if one.data} <= names
        assert {one.set for one in part.elements} <= {one.name for one in part.sets}
        assert not compiled.warnings


def targets(found: Sequence[Chain]) -> set[str]:
    verdicts = [statement for chain in found for one in chain.rules for statement in one]
    return {body["target"] for one in verdicts for kind, body in one.items() if kind in {"jump", "goto"}}


def test_compiling_again_gives_the_same_and_a_changed_filter_other_chains() -> None:
    first, again, changed = bind(rule("<tcp/>")), bind(rule("<tcp/>")), bind(rule("<udp/>"))
    assert first == again
    assert {one.set for one in first.fragment.elements} == {one.set for one in changed.fragment.elements}
    assert not first.fragment.elements & changed.fragment.elements


@pytest.mark.parametrize(
    "attribute", ["state='NEW'", "connlimit-above='1'", "ipset='s'", "option='2'", "flags='SYN/ALL'"]
)
def test_what_comes_later_is_refused_by_name_when_it_is_bound(attribute: str) -> None:
    with pytest.raises(Unsupported, match=attribute.split("=")[0]):
        bind(rule(f"<tcp {attribute}/>"))


def test_gratuitous_arp_comes_later() -> None:
    with pytest.raises(Unsupported, match="gratuitous"):
        bind(rule("<arp gratuitous='true'/>"))
    assert root_rules(rule("<arp gratuitous='false'/>"))[0] == ["ether type arp drop"]


@pytest.mark.parametrize("ports", ["srcportstart='9' srcportend='8'", "dstportstart='$A' dstportend='8'"])
def test_a_range_that_ends_before_it_begins_is_refused(ports: str) -> None:
    with pytest.raises(Invalid, match="9 to 8"):
        bind(rule(f"<tcp {ports}/>"), A=["9"])
