"""A host with a running daemon, shared by the tests of a module: each finds it without networks and leaves it so.

And one with dnsmasq alone.

Where Python is emulated one daemon serves all modules, for its start takes as long as several tests.
"""

import os
import socket
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Literal

import pytest
from support.abilities import on_stock_kernel
from support.dnsmasq import Served, make_bridge, make_host
from support.netns import Lab, Namespace, run
from support.private_bus import VNETD_GROUP
from support.site import Administrator, Site, site_with_daemon

from vnetd.linux.netlink import NETLINK_NETFILTER
from vnetd.linux.nft_batch import BatchWriter


def _span(fixture_name: str, config: pytest.Config) -> Literal["session", "module"]:
    return "session" if on_stock_kernel() else "module"


@pytest.fixture(scope=_span)
def shared_site() -> Iterator[Site]:
    """The host and its daemon."""
    with site_with_daemon() as site:
        yield site


@pytest.fixture(scope="module")
def vnetd_group() -> Iterator[None]:
    """The group vnetd. The package makes it; here it is laid over the machine's, in this run's own mount namespace."""
    with tempfile.NamedTemporaryFile("w", prefix="group-") as groups:
        groups.write(f"{Path('/etc/group').read_text().rstrip()}\nvnetd:x:{VNETD_GROUP}:\n")
        groups.flush()
        os.chmod(groups.name, 0o644)
        run("mount", "--bind", groups.name, "/etc/group")
        yield
        run("umount", "/etc/group")


@pytest.fixture
async def admin(shared_site: Site, lab: Lab) -> AsyncIterator[Administrator]:
    """Drives the shared daemon. Afterwards nothing of what the test did may be left on the host."""
    logged = shared_site.daemon.log.stat().st_size
    async with Administrator(shared_site, lab) as administrator:
        yield administrator
        print(shared_site.daemon.log.read_bytes()[logged:].decode())  # pytest shows it with a failure
        await administrator.clear()


@pytest.fixture
async def served(root: Path, inside_host: Namespace) -> AsyncIterator[Served]:
    """Runs dnsmasq on a host whose bridge is there; what runs at the end is ended with the namespace."""
    make_bridge(inside_host)
    made = make_host(root)
    yield made
    await made.host.close()


@pytest.fixture
def writer() -> Iterator[BatchWriter]:
    """What writes rules without libnftables, on a socket of its own."""
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER)
    sock.bind((0, 0))
    made = BatchWriter(sock)
    yield made
    made.close()
