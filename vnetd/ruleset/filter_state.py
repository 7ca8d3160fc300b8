"""What a rule may ask of the connection a packet belongs to, in one of two ways.

``Remembered`` is for every kernel: connections are what ``filter_flows`` remembers. ``Tracked`` asks the kernel's
connection tracking too, where the bridge family has it (module nf_conntrack_bridge); it knows errors about
connections and invalid packets. It looks at flows as well, for tracking does not know by which port of the bridge a
packet came, and a guest could send both directions of a connection itself. UDP-Lite is not left to it, since Linux
calls correct packets with partial checksums invalid.

ICMP messages that neither ask nor answer belong to no connection: rules without ``state`` take them as written.
"""

from collections.abc import Iterator, Sequence

from vnetd.model.capability import refusal
from vnetd.plan.features import BridgeFeatures
from vnetd.plan.rules import Json
from vnetd.ruleset import filter_symbols as names
from vnetd.ruleset.expressions import RETURN, match
from vnetd.ruleset.filter_flows import (
    ICMP,
    UDPLITE,
    Flow,
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
KERNEL_ORDER = ("INVALID", "ESTABLISHED", "RELATED", "NEW", "UNTRACKED")
"""States as libnftables lists them."""
STATES = frozenset(KERNEL_ORDER) - {"UNTRACKED"}
"""Those rules can name."""
OUTSIDE = frozenset({"INVALID", "RELATED", "UNTRACKED"})
"""States of packets that belong to no connection themselves."""


class Remembered:
    """By flows alone. ``untracked``: why not by connection tracking.

    Each method gives the rules of a chain: ``verdict`` for packets of an IP protocol (of any if ``number`` is
    ``None``) that are as asked, and back to where it was entered from for all others.
    """

    def __init__(self, untracked: str = "") -> None:
        self._untracked = untracked

    def originals(self, side: Side, number: int | None, verdict: Json, uses: Uses) -> list[Statements]:
        """Packets in the direction their connection began in, and those without connection."""
        known = [(*replies(flow, side, uses), *self._answering(flow), RETURN) for flow in flows(side.version, number)]
        strays = [(*answers(side.version), RETURN)] if _may_be_icmp(side, number) else []
        return [*known, *strays, (verdict,)]

    def answers(self, side: Side, number: int | None, verdict: Json, uses: Uses) -> list[Statements]:
        """Packets in the other direction of a connection."""
        kinds = flows(side.version, number)
        return [(*replies(flow, side, uses), *self._answering(flow), verdict) for flow in kinds]

    def states(
        self, side: Side, number: int | None, words: frozenset[str], verdict: Json, uses: Uses
    ) -> list[Statements]:
        """Packets in one of the states named. Raises ``Unsupported`` for states that cannot be told."""
        beyond = sorted(words & {"RELATED", "INVALID"})
        if beyond:
            raise refusal(f"state {' and '.join(beyond)}", "nft-bridge-conntrack", self._untracked)
        then = verdict if "ESTABLISHED" in words else RETURN
        kinds = flows(side.version, number)
        rules = [(*replies(flow, side, uses), *self._answering(flow), then) for flow in kinds]
        rules += [(*answered(flow, side, uses), *self._lasting(flow), then) for flow in kinds]
        if "NEW" not in words:
            return rules
        strays = [(*no_request(side.version), RETURN)] if _may_be_icmp(side, number) else []
        return [*rules, *strays, (verdict,)]

    def _answering(self, flow: Flow) -> Statements:
        """What else must hold for packets that answer a flow remembered."""
        return ()

    def _lasting(self, flow: Flow) -> Statements:
        """What else must hold for packets in the direction of a flow that was answered."""
        return ()


class Tracked(Remembered):
    """By flows the kernel knows as well, of packets it takes for valid; RELATED and INVALID by the kernel alone."""

    def originals(self, side: Side, number: int | None, verdict: Json, uses: Uses) -> list[Statements]:
        """See ``Remembered``."""
        loose = [(*no_flow(side.version), verdict)] if _may_be_icmp(side, number) else []
        others = [(_state(*OUTSIDE), RETURN)]
        return [*loose, *_tracked(side, number, others), *super().originals(side, number, verdict, uses)]

    def states(
        self, side: Side, number: int | None, words: frozenset[str], verdict: Json, uses: Uses
    ) -> list[Statements]:
        """See ``Remembered``."""
        flowing = words & {"NEW", "ESTABLISHED"}
        rules = super().states(side, number, flowing, verdict, uses) if flowing else []
        said = [(_state(*words - flowing), verdict)] if words - flowing else []
        unsaid = [(_state(*OUTSIDE - words), RETURN)] if flowing else []
        return [*_tracked(side, number, [*said, *unsaid]), *rules]

    def _answering(self, flow: Flow) -> Statements:
        return () if flow is UDPLITE else (_state("ESTABLISHED"), _direction("reply"))

    def _lasting(self, flow: Flow) -> Statements:
        return () if flow is UDPLITE else (_state("ESTABLISHED"),)


def way(features: BridgeFeatures) -> Remembered:
    """The way for a kernel."""
    return Tracked() if features.tracking else Remembered(features.untracked)


def _tracked(side: Side, number: int | None, rules: Sequence[Statements]) -> Iterator[Statements]:
    """Rules about what the kernel tracks, for all but UDP-Lite."""
    other = match(ip_protocol(side.version), names.protocol(UDPLITE_NUMBER), "!=")
    if number != UDPLITE_NUMBER:
        yield from ((other, *rule) if number is None else rule for rule in rules)


def _may_be_icmp(side: Side, number: int | None) -> bool:
    return number in {None, ICMP[side.version]}


def _state(*words: str) -> Json:
    chosen = [word.lower() for word in KERNEL_ORDER if word in words]
    return match({"ct": {"key": "state"}}, chosen[0] if len(chosen) == 1 else chosen, "in")


def _direction(word: str) -> Json:
    return match({"ct": {"key": "direction"}}, word)
