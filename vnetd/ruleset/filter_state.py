"""What a rule may ask of the connection a packet belongs to, in one of two ways.

``Remembered`` is for every kernel: connections are what ``filter_flows`` remembers. ``Tracked`` asks the kernel's
connection tracking too, where the bridge family has it (module nf_conntrack_bridge); it knows errors about
connections and invalid packets. It looks at flows as well, for tracking does not know by which port of the bridge a
packet came, and a guest could send both directions of a connection itself. UDP-Lite is not left to it, since Linux
calls correct packets with partial checksums invalid.

ICMP messages that neither ask nor answer belong to no connection: rules without ``state`` take them as written.
"""

from collections.abc import Iterator, Sequence
from typing import Protocol

from vnetd.model.capability import refusal
from vnetd.plan.features import BridgeFeatures
from vnetd.plan.rules import Json
from vnetd.ruleset import filter_symbols as names
from vnetd.ruleset.expressions import RETURN, match
from vnetd.ruleset.filter_flows import (
    ICMP,
    UDPLITE,
    Side,
    answered,
    answers,
    flows,
    no_flow,
    no_request,
    replies,
)
from vnetd.ruleset.filter_tests import ip_protocol
from vnetd.ruleset.filter_uses import Statements, Uses

UDPLITE_NUMBER = 136
KERNEL_ORDER = ("INVALID", "ESTABLISHED", "RELATED", "NEW")
"""States as libnftables lists them."""


class State(Protocol):
    """A way to tell connections. Each method gives the rules of a chain: ``verdict`` for packets of an IP protocol
    (of any if ``number`` is ``None``) that are as asked, and back to where it was entered from for all others."""

    def originals(self, side: Side, number: int | None, verdict: Json, uses: Uses) -> list[Statements]:
        """Packets in the direction their connection began in, and those without connection."""

    def answers(self, side: Side, number: int | None, verdict: Json, uses: Uses) -> list[Statements]:
        """Packets in the other direction of a connection."""

    def states(
        self, side: Side, number: int | None, words: frozenset[str], verdict: Json, uses: Uses
    ) -> list[Statements]:
        """Packets in one of the states named. Raises ``Unsupported`` for states that cannot be told."""


class Remembered:
    """By flows alone. ``untracked``: why not by connection tracking."""

    def __init__(self, untracked: str = "") -> None:
        self._untracked = untracked

    def originals(self, side: Side, number: int | None, verdict: Json, uses: Uses) -> list[Statements]:
        """See ``State``."""
        known = [(*replies(flow, side, uses), RETURN) for flow in flows(side.version, number)]
        strays = [(*answers(side.version), RETURN)] if _may_be_icmp(side, number) else []
        return [*known, *strays, (verdict,)]

    def answers(self, side: Side, number: int | None, verdict: Json, uses: Uses) -> list[Statements]:
        """See ``State``."""
        return [(*replies(flow, side, uses), verdict) for flow in flows(side.version, number)]

    def states(
        self, side: Side, number: int | None, words: frozenset[str], verdict: Json, uses: Uses
    ) -> list[Statements]:
        """See ``State``."""
        beyond = sorted(words & {"RELATED", "INVALID"})
        if beyond:
            raise refusal(f"state {' and '.join(beyond)}", "nft-bridge-conntrack", self._untracked)
        then = verdict if "ESTABLISHED" in words else RETURN
        kinds = flows(side.version, number)
        rules = [(*found(flow, side, uses), then) for found in (replies, answered) for flow in kinds]
        if "NEW" not in words:
            return rules
        strays = [(*no_request(side.version), RETURN)] if _may_be_icmp(side, number) else []
        return [*rules, *strays, (verdict,)]


class Tracked:
    """By connection tracking, and by flows."""

    def originals(self, side: Side, number: int | None, verdict: Json, uses: Uses) -> list[Statements]:
        """See ``State``."""
        if number == UDPLITE_NUMBER:
            return Remembered().originals(side, number, verdict, uses)
        apart = Remembered().originals(side, UDPLITE_NUMBER, verdict, uses) if number is None else []
        loose = [(*no_flow(side.version), verdict)] if _may_be_icmp(side, number) else []
        tracked = (_state("ESTABLISHED", "NEW"), _direction("original"), verdict)
        return [*_of_udplite(side, apart), *loose, tracked]

    def answers(self, side: Side, number: int | None, verdict: Json, uses: Uses) -> list[Statements]:
        """See ``State``."""
        answering = (_state("ESTABLISHED"), _direction("reply"))
        return [
            (*replies(flow, side, uses), *(() if flow is UDPLITE else answering), verdict)
            for flow in flows(side.version, number)
        ]

    def states(
        self, side: Side, number: int | None, words: frozenset[str], verdict: Json, uses: Uses
    ) -> list[Statements]:
        """See ``State``."""
        flowing = words & {"NEW", "ESTABLISHED"}
        if number == UDPLITE_NUMBER:
            return Remembered().states(side, number, flowing, verdict, uses) if flowing else []
        tracked = (_state(*words), verdict)
        if number is not None:
            return [tracked]
        apart = Remembered().states(side, UDPLITE_NUMBER, flowing, verdict, uses) if flowing else []
        return [*_of_udplite(side, [*apart, (RETURN,)]), tracked]


def way(features: BridgeFeatures) -> State:
    """The way for a kernel."""
    return Tracked() if features.tracking else Remembered(features.untracked)


def _of_udplite(side: Side, rules: Sequence[Statements]) -> Iterator[Statements]:
    """Rules for UDP-Lite alone; those that look at its ports are."""
    for rule in rules:
        lone = match(ip_protocol(side.version), names.protocol(UDPLITE_NUMBER))
        yield (lone, *rule) if len(rule) == 1 else rule


def _may_be_icmp(side: Side, number: int | None) -> bool:
    return number in {None, ICMP[side.version]}


def _state(*words: str) -> Json:
    chosen = [word.lower() for word in KERNEL_ORDER if word in words]
    return match({"ct": {"key": "state"}}, chosen[0] if len(chosen) == 1 else chosen, "in")


def _direction(word: str) -> Json:
    return match({"ct": {"key": "direction"}}, word)
