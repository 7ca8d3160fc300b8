"""What rules ask of connections, in both ways to tell them: remembered flows, and the kernel's tracking."""

import pytest
from support.filter_rules import ICMP, MAC, TRACKING, WAYS, bind, chains, entered, network_rules, rule, sides_of, words

from vnetd.model.errors import Unsupported
from vnetd.plan.features import BridgeFeatures

PORTS = "{0} daddr . {0} saddr . {1} dport . {1} sport"


@WAYS
def test_an_accepting_rule_takes_originals_one_way_and_answers_the_other(features: BridgeFeatures) -> None:
    tracked = features.tracking
    valid = ["state ['invalid', 'related', 'untracked'] return"] if tracked else []
    answer = "state established direction reply " if tracked else ""
    key = PORTS.format("ip", "udp")
    for direction, ahead, back in (("out", "from", "to"), ("in", "to", "from")):
        compiled = bind(rule("<udp dstportstart='53'/>", direction, "accept"), features=features)
        (with_it, asks), (against, answers) = (entered(compiled, side)[0] for side in (ahead, back))
        names = {"from": "iifname", "to": "oifname"}
        other = "in" if direction == "out" else "out"
        unless = f"{names[ahead]} . {key} @flows_udp4_{other} {answer}return"
        assert (with_it, asks) == ("udp dport 53 jump", [*valid, unless, "goto"])
        assert against == "udp sport 53 jump"
        assert answers == [f"{names[back]} . {key} @flows_udp4_{direction} {answer}goto"]


@WAYS
def test_what_a_stateful_filter_accepts_is_remembered_both_ways(features: BridgeFeatures) -> None:
    compiled = bind(rule("<udp dstportstart='53'/>", "out", "accept"), features=features)
    for side, own, other in (("from", "out", "in"), ("to", "in", "out")):
        (note,) = chains(compiled, f"{side}_note")
        assert note[-1] == "accept"
        assert sum(f"note flows_udp4_{own} accept" in one for one in note) == 1
        assert sum(f"@flows_udp4_{other} note flows_udp4_{other} accept" in one for one in note) == 1
        last = next(chain for chain in compiled.fragment.chains if chain.name.startswith(f"{side}_ip_")).rules[-1]
        assert words(last[0]) == "goto"
    assert not any(one.name.startswith("answered") for one in compiled.fragment.sets)


def test_a_filter_without_stateful_rules_remembers_nothing() -> None:
    for rules in (rule("<tcp/>"), rule("<tcp/>", "inout", "accept"), rule("<tcp/>", "in", "accept", "statematch='0'")):
        assert not any(one.dynamic for one in bind(rules).fragment.sets)


@WAYS
def test_accepting_everything_tells_connections_of_each_protocol_apart(features: BridgeFeatures) -> None:
    compiled = bind(rule("<all/>", "out", "accept"), features=features)
    ((_, answers),) = entered(compiled, "to")
    assert [one.split("@flows_")[1].split()[0] for one in answers] == [
        f"{name}4_out" for name in ("tcp", "udp", "udplite", "sctp", "icmp8_", "icmp13_", "icmp15_", "icmp17_", "ip")
    ]


def test_udp_lite_is_remembered_where_connections_are_tracked_as_well() -> None:
    for match, network in (("<udplite/>", "ip"), ("<udplite-ipv6/>", "ip6")):
        compiled = bind(rule(match, "out", "accept"), features=TRACKING)
        assert not any("state" in one for _, ending in entered(compiled, "from", network) for one in ending)
        compiled = bind(
            rule(
                match,
                "out",
                "accept",
            ),
            features=TRACKING,
        )
        assert not any("state" in one for _, ending in entered(compiled, "to", network) for one in ending)


# States by name


def test_related_and_invalid_packets_are_the_kernels_business_and_connections_are_remembered_as_well() -> None:
    compiled = bind(rule("<tcp state='RELATED,INVALID'/>", "out"), features=TRACKING)
    assert entered(compiled, "from") == [("ip protocol tcp jump", ["state ['invalid', 'related'] drop"])]
    key, own = PORTS.format("ip", "tcp"), "ip saddr . ip daddr . tcp sport . tcp dport"
    compiled = bind(rule("<tcp state='RELATED,ESTABLISHED'/>", "out"), features=TRACKING)
    assert entered(compiled, "from")[0][1] == [
        "state related drop",
        "state ['invalid', 'untracked'] return",
        f"iifname . {key} @flows_tcp4_in state established direction reply drop",
        f"iifname . {own} @answered_tcp4_out state established drop",
    ]


def test_negated_states_are_the_others() -> None:
    both = [
        bind(rule(one, "out"), features=TRACKING)
        for one in ("<tcp state='RELATED,INVALID,ESTABLISHED'/>", "<tcp match='no' state='NEW'/>")
    ]
    assert both[0].fragment.chains == both[1].fragment.chains
    assert network_rules(rule("<tcp match='no' state='NEW,ESTABLISHED,RELATED,INVALID'/>", "out")) == ([], [])
    with pytest.raises(Unsupported, match="state INVALID and RELATED needs connection tracking"):
        bind(rule("<tcp match='no' state='NEW'/>"))


def test_new_and_established_are_told_by_what_was_remembered_and_answered() -> None:
    key, own = PORTS.format("ip", "tcp"), "ip saddr . ip daddr . tcp sport . tcp dport"
    new = bind(rule("<tcp state='NEW'/>", "out"))
    assert entered(new, "from")[0][1] == [
        f"iifname . {key} @flows_tcp4_in return",
        f"iifname . {own} @answered_tcp4_out return",
        "drop",
    ]
    established = bind(rule("<tcp state='ESTABLISHED'/>", "out"))
    assert [one.split()[-1] for one in entered(established, "from")[0][1]] == ["drop", "drop"]
    assert any("note answered_tcp4_out" in one for one in chains(established, "to_note")[0])


@pytest.mark.parametrize("state", ["RELATED", "INVALID"])
def test_states_that_cannot_be_told_are_refused_by_name(state: str) -> None:
    untracked = BridgeFeatures(untracked="nftables says: no")
    words = rf"^filter f: state {state} needs connection tracking on bridges \(.*\), .*: nftables says: no$"
    with pytest.raises(Unsupported, match=words):
        bind(rule(f"<tcp state='NEW,{state}'/>"), features=untracked)


@WAYS
def test_states_hold_the_way_the_rule_is_written(features: BridgeFeatures) -> None:
    assert sides_of(rule("<tcp state='NEW'/>", "out"), features) == {"from"}
    assert sides_of(rule("<tcp state='NEW'/>", "in"), features) == {"to"}
    assert sides_of(rule("<tcp state='NEW'/>", "inout"), features) == {"from", "to"}
    assert sides_of(rule("<tcp state='NONE'/>", "in", "accept"), features) == {"to"}
    assert sides_of(rule(f"<all srcmacaddr='{MAC}' state='NEW'/>", "inout"), features) == {"to"}


def test_none_is_no_condition_and_statematch_off_ignores_states() -> None:
    assert network_rules(rule("<tcp dstportstart='1' state='NONE'/>", "in", "accept")) == ([], ["tcp dport 1 accept"])
    both = rule("<tcp dstportstart='1' state='NEW'/>", "in", "accept", "statematch='false'")
    assert network_rules(both) == (["tcp sport 1 accept"], ["tcp dport 1 accept"])


def test_a_limit_counts_connections_of_each_source_and_is_for_one_direction() -> None:
    compiled = bind(rule("<tcp dstportstart='22' connlimit-above='3'/>", "in"), features=TRACKING)
    assert sides_of(rule("<tcp connlimit-above='3'/>", "in"), TRACKING) == {"to"}
    ((with_it, ending),) = entered(compiled, "to")
    assert (with_it, ending[0].split("limit_")[0]) == ("tcp dport 22 jump", "note ")
    rules = [one for chain in compiled.fragment.chains for one in chain.rules]
    statement = next(statement for one in rules for statement in one if "set" in statement)
    assert statement["set"]["stmt"] == [{"ct count": {"val": 3, "inv": True}}]
    with pytest.raises(
        Unsupported, match=r"connlimit-above needs connection tracking on bridges .*: it was not tried$"
    ):
        bind(rule("<tcp connlimit-above='3'/>", "in"))


@WAYS
def test_an_echo_reply_is_accepted_only_after_its_request(features: BridgeFeatures) -> None:
    compiled = bind(rule("<icmp type='0'/>", "in", "accept"), features=features)
    assert entered(compiled, "from") == []
    asked = f"{ICMP} type echo-reply oifname . ip daddr . ip saddr @flows_icmp8_4_out"
    ((what, answers),) = entered(compiled, "to")
    assert what == f"{ICMP} type echo-reply jump"
    assert answers[0].startswith(asked)
    assert any(one.endswith("note flows_icmp8_4_out accept") for one in chains(compiled, "from_note")[0])


@WAYS
def test_all_types_but_one_are_accepted_without_unasked_answers(features: BridgeFeatures) -> None:
    compiled = bind(rule("<icmp match='no' type='5'/>", "in", "accept"), features=features)
    ((what, ending),) = entered(compiled, "to")
    assert what == f"{ICMP} type != redirect jump"
    assert ending[-2:] == [f"{ICMP} type set return", "goto"]
