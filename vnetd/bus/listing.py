"""Answers that hold every object: encoded object by object, kept, and joined.

A thousand networks are half a megabyte. Encoding them takes 50 ms, joining kept pieces one. What is not yet kept is
encoded a few at a time, so that the loop is never held up.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from uuid import UUID

from vnetd.bus.marshalling import encode_entries, join_array, join_dict
from vnetd.bus.objects import INTERFACES, KINDS, Objects, object_path
from vnetd.service.views import ObjectKind, View

SLICE = 25  # objects encoded before the loop may look after something else: about 1.5 ms


class _Pieces:
    """One encoded piece per object of a kind, made again when its view differs."""

    def __init__(self, encode: Callable[[ObjectKind, View], bytes]) -> None:
        self._encode = encode
        self._kept: dict[ObjectKind, dict[UUID, tuple[View, bytes]]] = {}

    async def of(self, kind: ObjectKind, views: Iterable[View]) -> list[bytes]:
        before = self._kept.get(kind, {})
        now: dict[UUID, tuple[View, bytes]] = {}
        fresh = 0
        for view in views:
            kept = before.get(view.uuid)
            if kept is None or kept[0] != view:
                kept = (view, self._encode(kind, view))
                fresh += 1
                if fresh % SLICE == 0:
                    await asyncio.sleep(0)
            now[view.uuid] = kept
        self._kept[kind] = now  # and so those of objects that are gone are dropped
        return [piece for _, piece in now.values()]


class Listing:
    """The bodies of ``List…`` and ``GetManagedObjects``. ``room`` returns when answers can be sent away."""

    def __init__(self, objects: Objects, room: Callable[[], Awaitable[None]]) -> None:
        self._objects = objects
        self._room = room
        self._turn = asyncio.Lock()  # many callers at once: one encodes what is new, the others find it kept
        self._rows = _Pieces(self._encode_row)
        self._managed = _Pieces(self._encode_managed)

    async def rows(self, kind: ObjectKind) -> bytes:
        """All objects of a kind as ``aa{sv}``."""
        async with self._next():
            return join_array(await self._rows.of(kind, self._objects.all(kind)))

    async def managed(self) -> bytes:
        """All objects as ``a{oa{sa{sv}}}``."""
        async with self._next():
            views = [(kind, self._objects.all(kind)) for kind in KINDS]
            return join_dict([piece for kind, some in views for piece in await self._managed.of(kind, some)])

    @asynccontextmanager
    async def _next(self) -> AsyncIterator[None]:
        """One answer in each turn of the loop, and only as fast as the bus takes them."""
        async with self._turn:
            await asyncio.sleep(0)
            await self._room()
            yield

    async def warm(self) -> None:
        """Encode what there is, so that the first caller does not wait for it."""
        for kind in KINDS:
            await self._rows.of(kind, self._objects.all(kind))

    def _encode_row(self, kind: ObjectKind, view: View) -> bytes:
        return encode_entries("a{sv}", self._objects.row(kind, view))

    def _encode_managed(self, kind: ObjectKind, view: View) -> bytes:
        interfaces = {INTERFACES[kind]: self._objects.entries(kind, view)}
        return encode_entries("a{oa{sa{sv}}}", {object_path(kind, view.uuid): interfaces})
