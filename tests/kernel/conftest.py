"""A host with a running daemon, shared by the tests of a module: each finds it without networks and leaves it so."""

from collections.abc import AsyncIterator, Iterator

import pytest
from support.netns import Lab
from support.site import Administrator, Site, site_with_daemon


@pytest.fixture(scope="module")
def shared_site() -> Iterator[Site]:
    """The host and its daemon."""
    with site_with_daemon() as site:
        yield site


@pytest.fixture
async def admin(shared_site: Site, lab: Lab) -> AsyncIterator[Administrator]:
    """Drives the shared daemon. Afterwards nothing of what the test did may be left on the host."""
    logged = shared_site.daemon.log.stat().st_size
    async with Administrator(shared_site, lab) as administrator:
        yield administrator
        print(shared_site.daemon.log.read_bytes()[logged:].decode())  # pytest shows it with a failure
        await administrator.clear()
