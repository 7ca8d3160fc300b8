"""A small ruleset for tests of who owns what in it."""

from dataclasses import replace
from typing import Any

from support.memory_nft import MemoryNft

from vnetd.plan.ledger import Ledger
from vnetd.plan.rules import Chain, Element, Family, Fragment, Hook, Set, TableContents

ACCEPT: Any = {"accept": None}
DROP: Any = {"drop": None}
GUESTS = Set("inet", "guests", ("ifname",))
SUBNETS = Set("inet", "subnets", ("ifname", "ipv4_addr"), flags=("interval",))
VERDICTS = Set("inet", "verdicts", ("ifname",), data="verdict")
SEEN = Set("inet", "seen", ("ipv4_addr",), flags=("dynamic",), timeout=60)
USES_GUESTS = ({"match": {"op": "==", "left": {"meta": {"key": "iifname"}}, "right": "@guests"}}, ACCEPT)
FORWARD = Chain("inet", "forward", (USES_GUESTS, (DROP,)), Hook("filter", "forward", 0))
INNER = Chain("inet", "inner", ((ACCEPT,),))
LONG = Chain("inet", "long", tuple(({"log": {"prefix": text}}, {"goto": {"target": "inner"}}) for text in "abacb"))
BASE = Fragment((FORWARD, INNER), (GUESTS, SUBNETS, VERDICTS, SEEN))


def element(name: str, *key: str, data: str = "") -> Element:
    """Of table ``inet vnetd``."""
    return Element("inet", name, key, data)


def base_with(*elements: Element) -> Fragment:
    """``BASE`` holding these elements."""
    return replace(BASE, elements=frozenset(elements))


def accepted(ledger: Ledger, **fragments: Fragment | None) -> tuple[Fragment, Fragment]:
    """What goes and what comes when these owners want that, which is entered."""
    proposal = ledger.propose(fragments)
    ledger.accept(proposal)
    return proposal.remove, proposal.add


async def listed(contents: Fragment, family: Family = "inet") -> TableContents:
    """The table of a host that holds ``contents``."""
    nft = MemoryNft()
    await nft.rewrite(contents)
    found = await nft.table(family)
    assert found is not None
    return found
