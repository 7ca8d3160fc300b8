"""Which elements a network adds to the shared chains, by mode; what that does to packets is shown in tests/kernel."""

from typing import Any

import pytest

from vnetd.model.network import Network
from vnetd.plan.rules import EMPTY, Fragment
from vnetd.ruleset.network import BASE_CHAINS, BASE_SETS, network_fragment

ADDRESSES = [{"address": "192.168.77.1/24"}, {"address": "fd77::1/64"}]
SERVICES = {
    "own4": {("192.168.77.1",)},
    "own6": {("fd77::1",)},
    "served4": {("virbr7", "192.168.77.1")},
    "served6": {("virbr7", "fd77::1")},
}


def compiled(mode: str, bridge: str = "virbr7", **fields: Any) -> Fragment:
    return network_fragment(
        Network.model_validate({"name": "lab", "mode": mode, "addresses": ADDRESSES} | fields), bridge
    )


def elements(fragment: Fragment) -> dict[str, set[tuple[str, ...]]]:
    found: dict[str, set[tuple[str, ...]]] = {}
    for element in fragment.elements:
        found.setdefault(element.set, set()).add(element.key)
    return found


def test_an_open_network_adds_no_rule_at_all() -> None:
    assert compiled("open") == EMPTY


def test_an_isolated_network_is_guarded_and_lets_nothing_through() -> None:
    assert elements(compiled("isolated")) == {"intra": {("virbr7", "virbr7")}, "guarded": {("virbr7",)}, **SERVICES}


@pytest.mark.parametrize("mode", ["nat", "route", "isolated"])
def test_services_on_the_networks_addresses_are_for_its_own_bridge(mode: str) -> None:
    found = elements(compiled(mode))
    assert {name: found[name] for name in SERVICES} == SERVICES


def test_nat_translates_ipv4_lets_answers_in_and_routes_ipv6() -> None:
    found = elements(compiled("nat"))
    assert found["from4"] == found["reply4"] == found["nat4"] == {("virbr7", "192.168.77.0/24")}
    assert found["from6"] == found["to6"] == {("virbr7", "fd77::/64")}
    assert not found.keys() & {"to4", "reply6", "nat6"}


def test_nat_translates_ipv6_if_asked_to() -> None:
    found = elements(compiled("nat", nat={"ipv6": True}))
    assert found["reply6"] == found["nat6"] == {("virbr7", "fd77::/64")}
    assert "to6" not in found


def test_route_lets_both_families_in_and_out_untranslated() -> None:
    found = elements(compiled("route"))
    assert found["from4"] == found["to4"] == {("virbr7", "192.168.77.0/24")}
    assert not found.keys() & {"nat4", "nat6", "reply4", "reply6"}


def test_a_named_uplink_is_the_only_way_out_and_in() -> None:
    found = elements(compiled("route", devices={"interfaces": ["eno1"]}))
    assert found["from4_via"] == {("virbr7", "eno1", "192.168.77.0/24")}
    assert found["to4_via"] == {("eno1", "virbr7", "192.168.77.0/24")}
    assert not found.keys() & {"from4", "to4", "from6", "to6"}


def test_a_subnet_behind_a_guest_is_treated_like_the_networks_own_but_a_default_route_is_not() -> None:
    routes = [
        {"destination": "10.9.0.0/16", "gateway": "192.168.77.2"},
        {"destination": "0.0.0.0/0", "gateway": "192.168.77.3"},
    ]
    found = elements(compiled("route", routes=routes))
    assert found["from4"] == {("virbr7", "192.168.77.0/24"), ("virbr7", "10.9.0.0/16")}


@pytest.mark.parametrize("mode", ["nat", "route", "open", "isolated"])
def test_without_access_to_the_host_the_bridge_is_closed_towards_it(mode: str) -> None:
    assert elements(compiled(mode, host_access=False))["no_host"] == {("virbr7",)}


@pytest.mark.parametrize(
    ("nat", "chain"),
    [
        ({}, "masquerade-1024-65535"),
        ({"ports": {"start": 0, "end": 0}}, "masquerade-1024-65535"),
        ({"ports": {"start": 500, "end": 1000}}, "masquerade-500-1000"),
        ({"address": {"start": "192.0.2.1", "end": "192.0.2.9"}}, "snat-192.0.2.1-192.0.2.9-1024-65535"),
    ],
)
def test_networks_that_translate_alike_share_a_chain(nat: dict[str, Any], chain: str) -> None:
    one, other = compiled("nat", "virbr1", nat=nat), compiled("nat", "virbr2", nat=nat)
    assert {e.data for e in one.elements if e.set == "nat4"} == {f"goto {chain}"}
    assert one.chains == other.chains and chain in {c.name for c in one.chains}


def test_two_networks_share_everything_but_their_elements() -> None:
    one, other = compiled("nat", "virbr1"), compiled("route", "virbr2", addresses=[{"address": "10.5.0.1/16"}])
    assert all(chain in one.chains and chain in other.chains for chain in BASE_CHAINS)
    assert one.sets == other.sets == BASE_SETS
    assert not one.elements & other.elements
