"""Tells front ends what happened, in order, on the loop's thread."""

import logging
from collections.abc import Callable

from vnetd.service.views import Notice

log = logging.getLogger(__name__)


class Notices:
    """Fan-out of notices; a listener that fails does not keep the others from hearing."""

    def __init__(self) -> None:
        self._listeners: list[Callable[[Notice], None]] = []

    def subscribe(self, listener: Callable[[Notice], None]) -> None:
        """Call ``listener`` for every notice from now on."""
        self._listeners.append(listener)

    def tell(self, notice: Notice) -> None:
        """Announce."""
        for listener in self._listeners:
            try:
                listener(notice)
            except Exception:
                log.exception("a listener failed on %s", type(notice).__name__)
