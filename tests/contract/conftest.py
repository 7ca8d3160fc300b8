"""The kernels that statements about kernels are tried on."""

from collections.abc import AsyncIterator

import pytest
from support.memory_kernel import MemoryKernel
from support.tried_kernel import Tried

from vnetd.host.protocols import Kernel
from vnetd.linux.kernel import LinuxKernel
from vnetd.linux.rtnl_events import RtnlEvents


@pytest.fixture(params=["memory", pytest.param("linux", marks=pytest.mark.kernel)])
async def tried(request: pytest.FixtureRequest) -> AsyncIterator[Tried]:
    """The kernel in memory, then the real one."""
    if request.param == "memory":
        memory = MemoryKernel()
        tried = Tried(memory)
        memory.subscribe(tried.events.append)
        yield tried
        return
    linux = await LinuxKernel.start()
    tried = Tried(linux)
    events = RtnlEvents(tried.events.append)
    yield tried
    events.close()
    await linux.close()


@pytest.fixture
def kernel(tried: Tried) -> Kernel:
    """The one that is tried."""
    return tried.kernel
