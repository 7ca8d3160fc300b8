"""Rules and what they are for, made in one hop: a change of threads takes as long as most of what is done there."""

from collections.abc import Callable


class Commit:
    """A transaction of rules that is done by whoever makes what they are for.

    ``done``: the kernel has taken it. ``refused``: it has not.
    """

    def __init__(self, commit: Callable[[], None]) -> None:
        """``commit`` does it, on whichever thread, or raises ``HostError``."""
        self.done = self.refused = False
        self._commit = commit

    def __call__(self) -> None:
        """On the thread of that hop. Raises ``HostError``."""
        try:
            self._commit()
        except BaseException:
            self.refused = True
            raise
        self.done = True
