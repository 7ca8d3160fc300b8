"""Never fight: what to leave alone, and for how long, when the same thing drifts again and again.

Repairs within ``WINDOW`` seconds are counted per thing. From ``LIMIT`` on somebody else manages it: it is left alone
for 1 s, after its next repair for twice as long each time up to ``MAX_HOLD``. A thing that stays as it should for
``WINDOW`` seconds after it was left alone is forgotten.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

LIMIT = 5
WINDOW = 10.0
FIRST_HOLD = 1.0
MAX_HOLD = 60.0


class Quarrel(NamedTuple):
    """Who changes a thing again and again ("" if that is not known), and how many seconds it is left alone."""

    cause: str
    hold: float


@dataclass(slots=True)
class _History:
    repairs: deque[float] = field(default_factory=deque)
    cause: str = ""
    hold: float = 0.0
    until: float = 0.0

    @property
    def calm_at(self) -> float:
        return max(self.until, self.repairs[-1]) + WINDOW


class Fights:
    """Repairs per thing of one target; all times are seconds of a monotonic clock, given by the caller."""

    def __init__(self) -> None:
        self._things: dict[str, _History] = {}

    def record(self, what: str, cause: str, now: float) -> None:
        """Note a repair of ``what``, and whose change it undid if that is known; ``calm`` comes first."""
        history = self._things.setdefault(what, _History())
        history.cause = cause or history.cause
        history.repairs.append(now)
        while history.repairs[0] < now - WINDOW:
            history.repairs.popleft()
        if history.hold or len(history.repairs) >= LIMIT:
            history.hold = min(history.hold * 2 or FIRST_HOLD, MAX_HOLD)
            history.until = now + history.hold

    def held(self, now: float) -> frozenset[str]:
        """What is to be left alone now."""
        return frozenset(what for what, history in self._things.items() if now < history.until)

    def fought(self) -> dict[str, Quarrel]:
        """What is fought over, until it is calm."""
        return {what: Quarrel(one.cause, one.hold) for what, one in self._things.items() if one.hold}

    def next(self, now: float) -> float | None:
        """Seconds until something need not be left alone any more, or is calm; ``None``: nothing is fought over."""
        fought = [one for one in self._things.values() if one.hold]
        ends = [one.until if now < one.until else one.calm_at for one in fought]
        return max(min(ends) - now, 0.0) if ends else None

    def calm(self, now: float) -> None:
        """Forget what stayed as it should for long enough."""
        self._things = {what: one for what, one in self._things.items() if now < one.calm_at}

    def forget(self, what: str) -> bool:
        """Forget one thing; whether it was fought over."""
        history = self._things.pop(what, None)
        return history is not None and history.hold > 0


def in_words(fought: Mapping[str, Quarrel]) -> tuple[str, ...]:
    """A sentence for all that the same one changes, as what he does often changes several things."""
    together: dict[Quarrel, list[str]] = {}
    for what, quarrel in fought.items():
        together.setdefault(quarrel, []).append(what)
    return tuple(_sentence(names, quarrel) for quarrel, names in together.items())


def _sentence(names: list[str], quarrel: Quarrel) -> str:
    return (
        f"{', '.join(names)}: repaired again and again, last changed by {quarrel.cause or 'something unknown'}; "
        f"somebody else manages it, and vnetd leaves it alone for {quarrel.hold:.0f} s"
    )
