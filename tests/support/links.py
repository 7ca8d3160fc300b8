"""Bridges for tests of links, and a kernel that takes its time."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from vnetd.linux.kernel import LinuxKernel
from vnetd.linux.netlink import RTM_DELLINK, ReadSocket
from vnetd.plan.kernel import CreateBridge, DeleteLink


def bridge(number: int = 0, mtu: int = 1500) -> CreateBridge:
    """One of vnetd's, down."""
    return CreateBridge(f"virbr{number}", f"52:54:00:00:00:{number:02x}", mtu, False, 0, f"vnetd:{number}")


def deletion_of(number: int) -> DeleteLink:
    """Of ``bridge(number)``."""
    return DeleteLink(f"virbr{number}", f"vnetd:{number}")


async def names(kernel: LinuxKernel) -> set[str]:
    """Of every link."""
    return {link.name for link in await kernel.links()}


class Lingering:
    """Makes the kernel linger before a deletion, if the test wants that, and after it, until the test lets it go on."""

    def __init__(self, change: Callable[[ReadSocket, int, int, bytes], None]) -> None:
        self._change = change
        self.prepare: Callable[[], object] = lambda: None
        self.may_begin, self.over = threading.Event(), threading.Event()
        self.may_begin.set()
        self.begun = 0

    def change(self, sock: ReadSocket, kind: int, flags: int, body: bytes) -> None:
        """In the place of ``ReadSocket.change``."""
        if kind != RTM_DELLINK:
            self._change(sock, kind, flags, body)
            return
        self.prepare()
        assert self.may_begin.wait(20)
        self.begun += 1
        self._change(sock, kind, flags, body)
        assert self.over.wait(20)


@contextmanager
def lingering_deletions(monkeypatch: pytest.MonkeyPatch) -> Iterator[Lingering]:
    """Whoever has a link deleted meanwhile is kept by the kernel."""
    made = Lingering(ReadSocket.change)
    monkeypatch.setattr(ReadSocket, "change", lambda *args: made.change(*args))
    try:
        yield made
    finally:
        made.may_begin.set()
        made.over.set()
