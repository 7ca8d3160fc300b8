"""Work that is begun and not waited for until its owner ends."""

import asyncio
from collections.abc import Coroutine


class Errands:
    """The tasks of one owner. The event loop itself would let go of a task that nobody else holds."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def run(self, work: Coroutine[object, object, None], name: str | None = None) -> asyncio.Task[None]:
        """Begin ``work`` in the running loop; ``name`` is what the loop calls it in its complaints."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def ended(self) -> None:
        """Return when all have ended, also those begun meanwhile; how they ended was theirs to say."""
        while self._tasks:
            # Not gather: of tasks that have all ended it may return at once, before the loop takes them from the set.
            await asyncio.wait(self._tasks)
