"""What outlives its users, and what must not: nothing that one guest left may be there for the next."""

from vnetd.plan.ledger import Ledger
from vnetd.plan.lingering import Lingering, is_lingering
from vnetd.plan.rules import Chain, Element, Fragment, Hook, Set
from vnetd.ruleset.expressions import ACCEPT, in_set, jump, meta
from vnetd.ruleset.filter_rules import goto

DEVICES = Set("bridge", "from_guest", ("ifname",), data="verdict")
BUDGET = Set("bridge", "spent", ("ifname",), flags=("dynamic",), size=100, timeout=60)
FLOWS = Set("bridge", "flows", ("ifname", "ipv4_addr"), flags=("dynamic",), size=100, timeout=600)


def chain(name: str, *rules: object) -> Chain:
    return Chain("bridge", name, (*((rule,) for rule in rules), (ACCEPT,)))


def kept_of(fragment: Fragment) -> Fragment:
    """What is kept of a fragment whose only owner goes."""
    ledger = Ledger()
    ledger.accept(ledger.propose({"port:1": fragment}))
    ((owner, kept),) = Lingering(ledger).after({"port:1": None}, until=60).items()
    assert is_lingering(owner) and kept is not None
    return kept


def test_chains_and_sets_stay_without_elements() -> None:
    element = Element("bridge", "from_guest", ("vnet0",), "goto web")
    fragment = Fragment((chain("web"),), (DEVICES, BUDGET), frozenset({element}))
    assert kept_of(fragment) == Fragment((chain("web"),), (DEVICES, BUDGET))


def test_what_remembers_a_guest_goes_and_all_that_leads_there() -> None:
    remembering = chain("remembering", in_set(meta("iifname"), "flows"))
    between, root = chain("between", jump("remembering")), chain("root", goto("between"))
    innocent = chain("innocent", in_set(meta("iifname"), "from_guest"))
    fragment = Fragment((root, innocent, between, remembering), (DEVICES, FLOWS))
    assert kept_of(fragment) == Fragment((innocent,), (DEVICES,))


def test_what_is_at_a_device_goes_for_the_next_of_that_name_has_it_not() -> None:
    entrance = Chain("netdev", "prerouting_mv0", ((ACCEPT,),), Hook("filter", "egress", -150, device="mv0"))
    assert kept_of(Fragment((entrance, chain("web")), (DEVICES,))) == Fragment((chain("web"),), (DEVICES,))


def test_a_change_of_elements_lets_go_of_nothing() -> None:
    ledger = Ledger()
    web = Fragment((chain("web"),), (DEVICES,))
    ledger.accept(ledger.propose({"port:1": web}))
    more = Fragment(web.chains, web.sets, frozenset({Element("bridge", "from_guest", ("vnet0",), "goto web")}))
    assert not Lingering(ledger).after({"port:1": more}, until=60)


def at(device: str, *chains: Chain) -> Fragment:
    """What a port has at its device and what it shares with others."""
    part = Set("netdev", f"from_guest_{device}", ("ifname",), data="verdict")
    entered = Chain("netdev", f"prerouting_{device}", ((ACCEPT,),), Hook("filter", "egress", -150, device=device))
    return Fragment((entered, *chains), (part,), frozenset({Element("netdev", part.name, (device,), "accept")}))


def go(ledger: Ledger, lingering: Lingering, owner: str) -> None:
    ledger.accept(ledger.propose({owner: None, **lingering.after({owner: None}, until=60)}))


def test_what_ports_at_different_devices_share_is_kept_once() -> None:
    ledger, shared = Ledger(), Chain("netdev", "web", ((ACCEPT,),))
    lingering, owners = Lingering(ledger), {f"port:{device}": at(device, shared) for device in ("mv0", "mv1")}
    ledger.accept(ledger.propose(owners))
    for owner in owners:
        go(ledger, lingering, owner)
    (keeper,) = ledger.owners()
    assert is_lingering(keeper) and lingering.due(60) == (keeper,)
    assert ledger.contents().chains == (shared,)


def test_of_an_owner_that_has_chains_at_a_device_alone_nothing_is_kept() -> None:
    ledger = Ledger()
    lingering = Lingering(ledger)
    ledger.accept(ledger.propose({"entrance:1": at("mv0")}))
    go(ledger, lingering, "entrance:1")
    assert not ledger.owners() and lingering.next is None
