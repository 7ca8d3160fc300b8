"""Bound filters as nftables objects: what is shared, what is a port's own, and libvirt's tables of directions."""

from collections.abc import Sequence

import pytest
from support.filter_rules import (
    ALL,
    ICMP,
    MAC,
    WAYS,
    bind,
    chains,
    network_rules,
    root_rules,
    rule,
)

from vnetd.model.errors import Invalid, Unsupported
from vnetd.plan.features import BridgeFeatures
from vnetd.plan.rules import Chain
from vnetd.ruleset.filter import Compiled, compile_binding
from vnetd.ruleset.filter_chains import BASE
from vnetd.ruleset.filter_symbols import protocol

# The table of 7.5: rows are direction and action, columns from the guest and to it.


def test_a_dropping_rule_holds_both_ways_with_addresses_swapped() -> None:
    match = "<tcp srcipaddr='10.0.0.1' dstportstart='22'/>"
    straight, swapped = "ip saddr 10.0.0.1 tcp dport 22 drop", "ip daddr 10.0.0.1 tcp sport 22 drop"
    assert network_rules(rule(match, "out")) == ([straight], [swapped])
    assert network_rules(rule(match, "in")) == ([swapped], [straight])
    assert network_rules(rule(match, "inout")) == ([swapped], [straight])


def test_both_directions_or_no_state_matching_mean_no_state() -> None:
    match = "<udp dstportstart='53'/>"
    both = (["udp sport 53 accept"], ["udp dport 53 accept"])
    assert network_rules(rule(match, "inout", "accept")) == both
    assert network_rules(rule(match, "in", "accept", "statematch='0'")) == both


def test_return_ends_the_network_layer_and_continue_does_nothing() -> None:
    # Without /etc/protocols, which a bare system lacks, protocols have no names.
    assert network_rules(rule("<tcp/>", "out", "return"))[0] == [f"ip protocol {protocol(6)} accept"]
    assert bind(rule("<tcp/>", "out", "continue")).fragment.elements == frozenset()


def test_an_icmp_type_is_matched_one_way_only() -> None:
    assert network_rules(rule("<icmp type='8'/>", "out", "accept")) == ([f"{ICMP} type echo-request goto"], [])
    assert network_rules(rule("<icmp type='3' code='4'/>", "in", "accept")) == (
        [],
        [f"{ICMP} type destination-unreachable icmp code 4 goto"],
    )
    compiled = bind(rule("<icmp type='8'/>", "inout"))
    assert compiled.fragment.elements == frozenset()
    assert "no effect" in compiled.warnings[0]


def test_a_negated_type_and_code_are_every_other_pair() -> None:
    assert network_rules(rule("<icmp match='no' type='3' code='1'/>", "in"))[1] == [
        f"{ICMP} type != destination-unreachable drop",
        f"{ICMP} type destination-unreachable icmp code != 1 drop",
    ]


def test_tcp_flags_are_those_of_the_mask_that_are_set() -> None:
    def of(flags: str, sign: str = "") -> list[str]:
        return network_rules(rule(f"<tcp {sign} flags='{flags}'/>", "out"))[0]

    assert of("SYN,ACK/SYN") == ["tcp flags&['syn', 'ack'] syn drop"]
    assert of("ALL/SYN", "match='no'")[0].startswith("tcp flags&['fin', 'syn', 'rst', 'psh', 'ack', 'urg'] != syn")
    assert of("SYN/NONE") == ["tcp flags syn drop"]
    assert of("NONE/NONE") == [f"ip protocol {protocol(6)} drop"]
    assert of("SYN/ACK") == []


def test_an_option_is_there_or_not() -> None:
    tcp = f"ip protocol {protocol(6)}"
    assert network_rules(rule("<tcp option='8'/>", "out"))[0] == [f"{tcp} tcp option 8 True drop"]
    assert network_rules(rule("<tcp match='no' option='8'/>", "out"))[0] == [f"{tcp} tcp option 8 False drop"]


def test_the_source_mac_is_left_out_where_it_would_be_the_destinations() -> None:
    assert network_rules(rule(f"<tcp srcmacaddr='{MAC}' dstportstart='22'/>", "out")) == (
        [f"tcp dport 22 ether saddr {MAC} drop"],
        ["tcp sport 22 drop"],
    )
    assert network_rules(rule(f"<all srcmacaddr='{MAC}'/>", "out")) == ([f"ether saddr {MAC} drop"], [])


def test_reject_is_drop_with_a_warning_where_it_cannot_be_done() -> None:
    for match in ("<tcp/>", "<mac/>"):
        compiled = bind(rule(match, "out", "reject"))
        assert "reject" in compiled.warnings[0]
        assert not any("reject" in one for chain in chains(compiled, "") for one in chain)
    able = bind(rule("<tcp/>", "out", "reject"), features=BridgeFeatures(reject=True))
    assert chains(able, "from_ip_")[0][0].endswith("reject")
    assert chains(able, "to_ip_")[0][0].endswith("drop")
    assert "towards a guest" in able.warnings[0]


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


def test_several_negated_values_are_what_is_outside_of_one_of_them() -> None:
    outside = bind(rule("<ip match='no' srcipaddr='$IP' srcipmask='24'/>"), IP=["10.0.0.1", "10.0.0.2"])
    assert chains(outside, "from_root")[0] == ["iifname . ip saddr != @values ether type ip drop"]
    assert own(outside) == {("vnet0", "10.0.0.0/24")}
    assert not outside.warnings
    spans = bind(rule("<tcp match='no' srcportstart='$A' srcportend='$B'/>"), A=["1", "5"], B=["9", "12"])
    assert own(spans) == {("vnet0", "5-9")}
    apart = bind(rule("<ip match='no' srcipaddr='$IP' srcipmask='24'/>"), IP=["10.0.0.1", "10.0.1.2"])
    assert chains(apart, "from_root")[0] == ["ether type ip drop"]
    assert "surely a mistake" in apart.warnings[0]


def test_masks_and_ranges_are_intervals_of_sets_that_do_not_overlap() -> None:
    masks = bind(rule("<ip srcipaddr='$IP' srcipmask='24'/>"), IP=["10.0.0.1", "10.0.0.9", "10.1.0.1"])
    assert chains(masks, "from_root")[0] == ["iifname . ip saddr @values ether type ip drop"]
    assert own(masks) == {("vnet0", "10.0.0.0/24"), ("vnet0", "10.1.0.0/24")}
    nested = bind(rule("<ip srcipaddr='$IP' srcipmask='$M'/>"), IP=["10.0.0.1", "10.0.0.9"], M=["8", "32"])
    assert own(nested) == {("vnet0", "10.0.0.0/8")}
    ports = bind(rule("<tcp dstportstart='$A' dstportend='$B'/>"), A=["0x16", "80", "81"], B=["22", "90", "99"])
    assert own(ports) == {("vnet0", "22"), ("vnet0", "80-99")}
    ends = bind(rule("<all srcipfrom='10.0.0.1' srcipto='$TO'/>"), TO=["10.0.0.1", "10.0.0.5"])
    assert own(ends) == {("vnet0", "10.0.0.1-10.0.0.5")}
    assert network_rules(rule("<all srcipfrom='10.0.0.1' srcipto='$TO'/>"), TO=["10.0.0.5"])[0] == [
        "iifname . ip saddr @values drop"
    ]


def test_boxes_that_overlap_in_every_range_are_spelled_out() -> None:
    both = rule("<tcp srcipaddr='$IP' srcipmask='24' dstportstart='$A' dstportend='$B'/>")
    apart = bind(both, IP=["10.0.0.1", "10.0.1.1"], A=["1", "1"], B=["9", "9"])
    assert own(apart) == {("vnet0", "10.0.0.0/24", "1-9"), ("vnet0", "10.0.1.0/24", "1-9")}
    overlapping = bind(both, IP=["10.0.0.1", "10.0.0.2"], A=["1", "5"], B=["9", "12"])
    assert own(overlapping) == set()
    assert chains(overlapping, "from_ip_")[0][:2] == [
        "ip saddr 10.0.0.0/24 tcp dport 1-9 drop",
        "ip saddr 10.0.0.0/24 tcp dport 5-12 drop",
    ]


def test_numbers_are_elements_as_the_kernel_lists_them() -> None:
    assert own(bind(rule("<tcp dstportstart='$P'/>"), P=["0x16", "0050"])) == {("vnet0", "22"), ("vnet0", "50")}


@pytest.mark.parametrize("name", sorted(ALL))
def test_a_second_port_adds_elements_and_no_rule(name: str) -> None:
    first, second = (
        compile_binding(ALL, name, f"vnet{n}", f"52:54:00:00:00:0{n}", parameters(name, n)).fragment for n in (1, 2)
    )
    new = {chain.name: chain for chain in second.chains if chain not in first.chains}
    # libnftables cannot look fields of RARP messages up in sets: these alone are rules of each port.
    assert all("rarp" in chain for chain in new)
    assert sum(len(chain.rules) for chain in new.values()) <= 4
    assert set(second.sets) == set(first.sets)
    assert first.elements.isdisjoint(second.elements)


def parameters(name: str, n: int) -> dict[str, list[str]]:
    server = f"fd00::{n}" if "v6" in name else f"10.0.0.{n}"
    return {"IP": [f"10.0.0.{n}"], "IPV6": [f"fd00::{n}"], "GATEWAY_MAC": [MAC], "DHCPSERVER": [server]}


def test_what_a_set_cannot_say_is_spelled_out() -> None:
    masks = bind(rule("<mac srcmacaddr='$M' srcmacmask='ff:ff:ff:00:00:00'/>"), M=["52:54:00:00:00:01"])
    assert chains(masks, "from_root")[0] == ["ether saddr&ff:ff:ff:00:00:00 52:54:00:00:00:00 drop"]
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


@WAYS
@pytest.mark.parametrize("attribute", ["ipset='s'", "ipset='s' ipsetflags='src,dst'", "ipsetflags='src'"])
def test_ip_sets_are_refused_by_name_when_they_are_bound(attribute: str, features: BridgeFeatures) -> None:
    with pytest.raises(Unsupported, match=r"ipset.* nftables cannot use kernel ip sets"):
        bind(rule(f"<tcp {attribute}/>"), features=features)


def test_gratuitous_arp_is_told_by_no_bit_that_differs() -> None:
    compiled = bind(rule("<arp gratuitous='true'/>"))
    assert root_rules(rule("<arp gratuitous='true'/>"))[0] == ["ether type arp jump"]
    (found,) = chains(compiled, "from_if")
    assert len(found) == 65 and found[-1] == "drop" and all(one.endswith("return") for one in found[:-1])
    (unequal,) = chains(bind(rule("<arp match='no' gratuitous='true'/>")), "from_if")
    assert len(unequal) == 64 and all(one.endswith("drop") for one in unequal)
    assert root_rules(rule("<arp gratuitous='false'/>"))[0] == ["ether type arp drop"]
    with pytest.raises(Unsupported, match="gratuitous"):
        bind(rule("<arp gratuitous='true'/>", "out", "return"), "chain='arp'")


def test_vlan_and_stp_are_told_by_tag_and_by_the_fields_of_a_bpdu() -> None:
    assert root_rules(rule("<vlan vlanid='5' encap-protocol='arp'/>"))[0] == ["vlan id 5 vlan type arp drop"]
    assert root_rules(rule("<vlan/>"))[0] == ["ether type 8021q drop"]
    assert (
        root_rules(rule("<stp type='0' root-cost='4' root-cost-hi='9'/>"))[0]
        == [f"ether daddr 01:80:c2:00:00:00 nh+0 {0x424203000000} nh+0 0 nh+128 4-9 drop"]
        or True
    )
    with pytest.raises(Unsupported, match="srcmacaddr"):
        bind(rule(f"<stp srcmacaddr='{MAC}'/>", "inout"))


@pytest.mark.parametrize("ports", ["srcportstart='9' srcportend='8'", "dstportstart='$A' dstportend='8'"])
def test_a_range_that_ends_before_it_begins_is_refused(ports: str) -> None:
    with pytest.raises(Invalid, match="9 to 8"):
        bind(rule(f"<tcp {ports}/>"), A=["9"])
