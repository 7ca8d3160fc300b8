"""Deleting links, many at once where many wait.

The kernel takes tens of milliseconds for a link (RCU grace periods) and about half of that for each of several
deleted by one request [bridges: 30-36 ms singly, 21 ms each in fours, 19 in eights, 17 in hundreds].
"""

import errno
import logging
import secrets
from collections import deque
from concurrent.futures import Future

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


class Deletions:
    """Deletions that wait and those under way. ``add`` belongs to the loop's thread, the rest to the worker."""

    def __init__(self) -> None:
        self._waiting: deque[Waiting] = deque()

    def add(self, operation: DeleteLink) -> "Future[None]":
        """Queue one deletion; the future tells when its link is gone or why it is not."""
        future: Future[None] = Future()
        self._waiting.append((operation, future))
        return future

    def work(self, sock: ReadSocket) -> None:
        """Do everything that waits by now, a group at a time."""
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), LARGEST_GROUP))]
            _delete(sock, [waiting for waiting in batch if waiting[1].set_running_or_notify_cancel()])


def _delete(sock: ReadSocket, batch: list[Waiting]) -> None:
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
    # What has no kind is hardware: it cannot be deleted, and would only spoil the deletion of the others.
    deletable = frozenset(link.index for link in links if link.kind)
    deleted = deletable if len(deletable) > 1 and _delete_group(sock, deletable) else frozenset()
    for link, futures in links.items():
        _answer(futures, None if link.index in deleted else _delete_single(sock, link))


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
