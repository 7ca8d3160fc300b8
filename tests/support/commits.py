"""``host.Commit`` for tests: what is done when it is asked for, on a thread or awaited, as the host is."""

import asyncio
from collections.abc import Callable
from typing import Any

from support.memory_nft import MemoryCommit

from vnetd.host.commit import Commit
from vnetd.model.errors import HostError


class Witness(Commit):
    """Tells what ``look`` saw when it was asked for; ``refusing``: then it fails."""

    def __init__(self, look: Callable[[], Any] = lambda: None, *, refusing: bool = False) -> None:
        super().__init__(self._notice)
        self.seen: list[Any] = []
        self._look = look
        self._refusing = refusing

    async def act(self) -> None:
        """As in memory."""
        self()

    def _notice(self) -> None:
        self.seen.append(self._look())
        if self._refusing:
            raise HostError("commit rules", "chain web", "refused")


async def act(commit: Commit) -> None:
    """Do it as whoever takes it does."""
    if isinstance(commit, MemoryCommit):
        await commit.act()
    else:
        await asyncio.to_thread(commit)
