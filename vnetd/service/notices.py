"""Tells front ends what happened, in order, on the loop's thread."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from typing import TypeVar

from vnetd.service.views import Notice

log = logging.getLogger(__name__)

T = TypeVar("T")

SLICE = 20
"""Objects something is told of before the loop may look after something else: about 1 ms."""


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


async def by_turns(objects: Iterable[T]) -> AsyncIterator[T]:
    """Each of them, in slices: what hundreds share is news of each, and the loop is not to be held up by it."""
    for number, one in enumerate(objects):
        if number and number % SLICE == 0:
            await asyncio.sleep(0)
        yield one
