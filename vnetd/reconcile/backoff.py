"""Never fight: how long to hold back when the same object drifts again and again.

Repairs within ``WINDOW`` seconds are counted per object. From ``LIMIT`` on somebody else manages the object: the
next repair waits 1 s, then twice as long each time up to ``MAX_HOLD``. An object that stays as it should for
``WINDOW`` seconds after its hold is forgotten.
"""

from collections import deque
from dataclasses import dataclass, field

LIMIT = 5
WINDOW = 10.0
FIRST_HOLD = 1.0
MAX_HOLD = 60.0


@dataclass(slots=True)
class _History:
    repairs: deque[float] = field(default_factory=deque)
    hold: float = 0.0
    until: float = 0.0


class Fights:
    """Repairs per object; all times are seconds of a monotonic clock, given by the caller."""

    def __init__(self) -> None:
        self._objects: dict[str, _History] = {}

    def record(self, what: str, now: float) -> float:
        """Note a repair of ``what``; returns the seconds to hold back from now on, 0 for none."""
        history = self._objects.setdefault(what, _History())
        if history.hold and now > history.until + WINDOW:
            history.hold = 0.0
            history.repairs.clear()
        history.repairs.append(now)
        while history.repairs and history.repairs[0] < now - WINDOW:
            history.repairs.popleft()
        if history.hold or len(history.repairs) >= LIMIT:
            history.hold = min(history.hold * 2 or FIRST_HOLD, MAX_HOLD)
            history.until = now + history.hold
            return history.hold
        return 0.0

    def calm(self, now: float) -> bool:
        """Whether every hold is over and was followed by quiet; forgets those that were."""
        for what, history in list(self._objects.items()):
            last = max(history.until, history.repairs[-1] if history.repairs else 0.0)
            if now > last + WINDOW:
                del self._objects[what]
        return not any(history.hold for history in self._objects.values())
