"""What of the ruleset outlives those who needed it, so that whoever comes next need not make it anew. Pure.

Making chains takes the kernel and libnftables many times as long as the elements that are a network's or port's own,
and guests and networks come and go. So chains and sets that are let go of get another owner in the ledger for a
while; they act on no packet, for no element leads to them. What one guest's packets left in a set must not be there
for the next guest at a device of that name, so such sets go, and the chains that need them.
"""

from collections.abc import Collection, Mapping

from vnetd.plan.ledger import Ledger
from vnetd.plan.rules import Chain, Fragment, Set

PREFIX = "lingering:"
MOST = 64
"""Different sets of chains that are kept at most; those that are left longest go first."""


class Lingering:
    """Owners in ``ledger`` of what was let go of, and until when they keep it."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._until: dict[str, float] = {}  # in this order

    def after(self, changes: Mapping[str, Fragment | None], until: float) -> dict[str, Fragment | None]:
        """The changes that go with ``changes``: what these let go of is kept ``until`` then, what is too much goes."""
        fresh: dict[str, Fragment | None] = {}
        for owner, after in changes.items():
            before = self._ledger.fragment(owner)
            if is_lingering(owner):
                self._until.pop(owner, None)
            elif before and before.chains and not (after and after.chains == before.chains):
                shared = [f"{chain.family}/{chain.name}" for chain in before.chains if not _at_device(chain)]
                if not shared:
                    continue
                keeper = PREFIX + " ".join(shared)
                self._until.pop(keeper, None)
                self._until[keeper] = until
                if keeper not in fresh and self._ledger.fragment(keeper) is None:
                    fresh[keeper] = _lasting(before)
        too_much = list(self._until)[:-MOST]
        for keeper in too_much:
            del self._until[keeper]
        return {**fresh, **dict.fromkeys(too_much)}

    def postpone(self, keepers: Collection[str], until: float) -> None:
        """These could not go; they are kept ``until`` then."""
        for keeper in keepers:
            self._until[keeper] = until

    @property
    def next(self) -> float | None:
        """When the first of them has been kept long enough, ``None`` if there is none."""
        return next(iter(self._until.values()), None)

    def due(self, now: float) -> tuple[str, ...]:
        """Owners that have kept theirs long enough."""
        return tuple(keeper for keeper, until in self._until.items() if until <= now)


def is_lingering(owner: str) -> bool:
    """Whether this owner only keeps what others had."""
    return owner.startswith(PREFIX)


def _lasting(fragment: Fragment) -> Fragment:
    """Chains and sets that hold nothing of any guest's, and need none that do. What is at a device goes with that."""
    sets = tuple(one for one in fragment.sets if not _remembers(one))
    chains = tuple(chain for chain in fragment.chains if not _at_device(chain))
    gone = {f"@{one.name}" for one in fragment.sets if one not in sets}
    while gone and (passing := {chain.name for chain in chains if chain.names(gone)}):
        chains = tuple(chain for chain in chains if chain.name not in passing)
        gone = passing
    return Fragment(chains, sets)


def _at_device(chain: Chain) -> bool:
    """Whether it goes with a device."""
    return bool(chain.hook and chain.hook.device)


def _remembers(one: Set) -> bool:
    """Whether packets leave in it what a guest did. What is keyed by devices alone are budgets of packets to show."""
    return one.dynamic and one.key != ("ifname",)
