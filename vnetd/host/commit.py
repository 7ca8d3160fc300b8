"""Rules and what they are for, made in one hop: a change of threads takes as long as most of what is done there."""

from typing import Protocol


class Commit(Protocol):
    """A transaction of rules that is done by whoever makes what they are for.

    ``done``: the kernel has taken it. ``refused``: it has not.
    """

    done: bool
    refused: bool

    def __call__(self) -> None:
        """On the thread of that hop. Raises ``HostError``."""
        ...
