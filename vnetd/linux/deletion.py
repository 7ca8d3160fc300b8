"""Deleting links, many at once where many wait.

The kernel takes tens of milliseconds for a link (RCU grace periods) and about half of that for each of several
deleted by one request [bridges: 30-36 ms singly, 21 ms each in fours, 19 in eights, 17 in hundreds]. Much of that, for
a tap 17 ms of 18, passes when the link is gone already: until nobody can have its memory in use any more.
"""

import errno
import logging
import secrets
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress

from vnetd.linux.links import IFLA_GROUP, about, read_group, read_link
from vnetd.linux.netlink import RTM_DELLINK, RTM_NEWLINK, U32, DumpInterrupted, ReadSocket, encode
from vnetd.linux.operations import reporting
from vnetd.model.errors import HostError
from vnetd.plan.kernel import DeleteLink
from vnetd.plan.links import Link

LARGEST_GROUP = 12
"""Links a request deletes at most: the kernel lets nobody else change links for its whole duration."""

log = logging.getLogger(__name__)

Waiting = tuple[DeleteLink, "Future[None]"]
Futures = dict[int, "list[Future[None]]"]
"""Who waits for a link to go, by its number."""


class Deletions:
    """Deletions that wait and those under way. ``work`` belongs to the threads that delete, the rest to the loop's.

    Of a link that is being deleted, whoever takes the futures out of ``_under_way`` answers them.
    """

    def __init__(self) -> None:
        self._waiting: deque[Waiting] = deque()
        self._under_way: dict[ReadSocket, Futures] = {}

    @property
    def pending(self) -> bool:
        """Whether there is something to do."""
        return bool(self._waiting)

    def add(self, operation: DeleteLink) -> "Future[None]":
        """Queue one deletion; the future tells when its link is gone or why it is not."""
        future: Future[None] = Future()
        self._waiting.append((operation, future))
        return future

    def gone(self, index: int) -> None:
        """The kernel lists this link no more: whoever waits for that need not wait for the rest of its deletion."""
        for futures in tuple(self._under_way.values()):
            _answer(futures.pop(index, []), None)

    def work(self, sock: ReadSocket) -> None:
        """Do everything that waits by now, a group at a time; ``sock`` is the thread's own."""
        while batch := self._next():
            links = _links(sock, batch)
            futures = self._under_way[sock] = {link.index: futures for link, futures in links.items()}
            try:
                for index, failure in _delete(sock, tuple(links)):
                    _answer(futures.pop(index, []), failure)
            except Exception as error:  # nobody shall wait for what never comes
                for index in tuple(futures):
                    _answer(futures.pop(index, []), error)
            finally:
                del self._under_way[sock]

    def _next(self) -> list[Waiting]:
        batch: list[Waiting] = []
        with suppress(IndexError):
            while len(batch) < LARGEST_GROUP:
                waiting = self._waiting.popleft()
                if waiting[1].set_running_or_notify_cancel():
                    batch.append(waiting)
        return batch


def _links(sock: ReadSocket, batch: list[Waiting]) -> "dict[Link, list[Future[None]]]":
    """Links that are there and vnetd's, with those who wait for each to go; the others are answered."""
    links: dict[Link, list[Future[None]]] = {}
    for operation, future in batch:
        try:
            link = _ours(sock, operation)
        except Exception as error:
            future.set_exception(error)
        else:
            if link is None:
                future.set_result(None)
            else:
                links.setdefault(link, []).append(future)
    return links


def _delete(sock: ReadSocket, links: Sequence[Link]) -> Iterator[tuple[int, Exception | None]]:
    """Delete them; number by number what became of it."""
    # What has no kind is hardware: it cannot be deleted, and would only spoil the deletion of the others.
    deletable = frozenset(link.index for link in links if link.kind)
    deleted = deletable if len(deletable) > 1 and _delete_group(sock, deletable) else frozenset()
    for link in links:
        yield link.index, None if link.index in deleted else _delete_single(sock, link)


def _answer(futures: list[Future[None]], failure: Exception | None) -> None:
    for future in futures:
        if failure:
            future.set_exception(failure)
        else:
            future.set_result(None)


def _ours(sock: ReadSocket, operation: DeleteLink) -> Link | None:
    with reporting("delete link", operation.name):
        link = read_link(sock, operation.name)
    if link is not None and link.alias != operation.alias:
        log.warning("%s carries alias %r, not %r: it is left alone", link.name, link.alias, operation.alias)
        return None
    return link


def _delete_single(sock: ReadSocket, link: Link) -> Exception | None:
    try:
        with reporting("delete link", link.name, {errno.ENODEV}):
            sock.change(RTM_DELLINK, 0, about(link.index))
    except HostError as error:
        return error
    except Exception as error:
        log.exception("deleting %s", link.name)
        return error
    return None


def _delete_group(sock: ReadSocket, indexes: frozenset[int]) -> bool:
    """Delete these links by one request; ``False`` if they had better be deleted singly.

    A group whose number nobody can guess is filled with them, and must hold exactly them right before the
    deletion: a link that somebody else had put there would go with ours.
    """
    group = secrets.randbelow((1 << 31) - 2) + 2
    members = encode(IFLA_GROUP, U32.pack(group))
    try:
        for index in sorted(indexes):
            sock.change(RTM_NEWLINK, 0, about(index) + members)
        if read_group(sock, group) != indexes:
            log.warning("somebody else put links into group %d: deleting %d one by one", group, len(indexes))
            return False
        sock.change(RTM_DELLINK, 0, about(0) + members)
    except (OSError, DumpInterrupted) as error:
        log.info("deleting %d links one by one instead: %s", len(indexes), error)
        return False
    return True
