"""An event loop on which waiting takes no time: when all tasks wait, its clock jumps to the next timer."""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any


class _Selector(selectors.DefaultSelector):
    """Reports what is ready; instead of waiting it notes how long it would have."""

    skipped = 0.0

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:  # nothing is planned: only a thread or a signal can go on
            return super().select(None)
        ready = super().select(0)
        if not ready:
            self.skipped += max(timeout, 0.0)
        return ready


class HastyLoop(asyncio.SelectorEventLoop):
    """The loop. Threads are not waited for while a timer runs, so use it where there are none."""

    def __init__(self) -> None:
        self._hasty = _Selector()
        super().__init__(self._hasty)

    def time(self) -> float:
        """Seconds, those that were skipped included."""
        return super().time() + self._hasty.skipped


class ExactLoop(HastyLoop):
    """The same with a clock that begins at 0 and stands still while something is done, however busy the machine."""

    def time(self) -> float:
        """Seconds that were skipped."""
        return self._hasty.skipped


def hastily(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a test on a ``HastyLoop``."""

    @wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        with asyncio.Runner(loop_factory=HastyLoop) as runner:
            runner.run(test(*args, **kwargs))

    return run
