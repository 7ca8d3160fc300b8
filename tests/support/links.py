"""Bridges for tests of links."""

from vnetd.linux.kernel import LinuxKernel
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
