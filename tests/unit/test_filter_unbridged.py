"""Filters of devices in no bridge: the same rules, asked from the other side, and where packets come to them."""

import json
import re
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from support.filter_rules import ALL, MAC

from vnetd.plan.drift import union
from vnetd.plan.rules import Fragment
from vnetd.ruleset.filter import compile_binding
from vnetd.ruleset.filter_explain import met
from vnetd.ruleset.learning import Watched, watching
from vnetd.ruleset.unbridged import entrance, part_of, unbridged

DEVICES = [f"macvtap{number}" for number in range(1000)]
COMPILED = compile_binding(ALL, "clean-traffic", "macvtap0", MAC, {"IP": ["10.0.0.1"]}).fragment
BRIDGED = union((COMPILED, watching(Watched("macvtap0", traffic=True, speaks_for=frozenset()))))


def named(fragment: Fragment, key: str) -> int:
    """How often rules ask for the device by that name."""

    def count(json: Any) -> int:
        if isinstance(json, dict):
            return (json == {"meta": {"key": key}}) + sum(map(count, json.values()))
        return sum(map(count, json)) if isinstance(json, list | tuple) else 0

    return sum(count(chain.rules) for chain in fragment.chains)


def test_rules_ask_for_the_device_under_the_other_name() -> None:
    inner = Fragment(tuple(one for one in BRIDGED.chains if not one.hook))
    turned = unbridged(BRIDGED)
    assert (named(turned, "oifname"), named(turned, "iifname")) == (named(inner, "iifname"), named(inner, "oifname"))
    assert named(turned, "oifname") and named(turned, "iifname")
    assert [one.name for one in turned.chains] == [one.name for one in inner.chains]
    assert {one.family for one in (*turned.chains, *turned.sets, *turned.elements)} == {"netdev"}


def test_what_ports_share_is_one_thing_for_them_here_too() -> None:
    one, other = (
        compile_binding(ALL, "clean-traffic", device, MAC, {"IP": ["10.0.0.1"]}).fragment
        for device in ("macvtap0", "macvtap1")
    )
    shared = [here is there for here, there in zip(one.chains, other.chains, strict=True) if not here.hook]
    turned = zip(unbridged(one).chains, unbridged(other).chains, strict=True)
    assert any(shared) and [here is there for here, there in turned] == shared
    near = next(name for name in DEVICES[1:] if part_of("", name) == part_of("", DEVICES[0]))
    entrances = zip(entrance(DEVICES[0]).chains, entrance(near).chains, strict=True)
    assert all(here.rules is there.rules for here, there in entrances)


def test_few_devices_ask_the_same_maps() -> None:
    """The kernel goes through the elements of each map from each base chain that asks it."""
    asked = Counter(json.dumps(chain.rules) for device in DEVICES for chain in entrance(device).chains)
    assert max(asked.values()) <= 20
    filled = Counter(one.set for device in DEVICES for one in unbridged(watching(Watched(device))).elements)
    assert max(filled.values()) <= 20


def test_each_rule_still_knows_what_it_was_made_of() -> None:
    for towards_guest in (False, True):
        told = met(unbridged(COMPILED), "macvtap0", towards_guest)
        assert told and told == met(COMPILED, "macvtap0", towards_guest)


def test_every_place_rules_are_entered_from_in_a_bridge_is_one_at_the_device() -> None:
    made = {one.name: one for one in entrance("macvtap0").chains}
    for base in (one for one in BRIDGED.chains if one.hook):
        one, prerouting = made[f"{base.name}_macvtap0"], base.hook == replace(base.hook, hook="prerouting")
        assert one.hook == replace(base.hook, hook="egress" if prerouting else "ingress")
        assert one.hook and one.hook.device == "macvtap0"
        assert named(Fragment((one,)), "oifname" if prerouting else "iifname") == len(one.rules) == len(base.rules)
    assert {one.name for one in entrance("macvtap0").sets} >= {
        one.set for one in unbridged(BRIDGED).elements if one.data and not one.set.startswith("private")
    }


@pytest.mark.parametrize(
    ("more", "names"),
    [
        ([], {"prerouting", "postrouting"}),
        ([Watched("macvtap0")], {"prerouting", "postrouting", "learning_prerouting", "learning_postrouting"}),
        (
            [Watched("macvtap0", speaks_for=frozenset())],
            {"prerouting", "postrouting", "learning_prerouting", "learning_postrouting", "neighbours"},
        ),
    ],
    ids=["no learning", "learning", "neighbours"],
)
def test_packets_are_led_only_to_rules_that_are_there(more: list[Watched], names: set[str]) -> None:
    rules = unbridged(union((COMPILED, *map(watching, more))))
    entered, whole = entrance("macvtap0", rules), entrance("macvtap0")
    assert {one.name for one in entered.chains} == {f"{name}_macvtap0" for name in names}
    assert all(one in whole.chains for one in entered.chains)
    asked = {word for one in entered.chains for word in re.findall(r"@(\w+)", json.dumps(one.rules))}
    assert {one.name for one in entered.sets} == asked <= {one.set for one in rules.elements}


def test_every_map_packets_are_led_into_is_asked_at_the_device() -> None:
    rules = unbridged(BRIDGED)
    assert entrance("macvtap0", rules) == entrance("macvtap0")
    assert not entrance("macvtap0", Fragment()).chains
