"""How the tap of a port comes to be, the first time and again: it is tagged as ours before it can outlive us."""

from vnetd.host.protocols import Host
from vnetd.model.port import PersistentTap
from vnetd.plan.kernel import SetLink, WriteSysctl


async def make_tap(host: Host, device: str, tap: PersistentTap, properties: SetLink) -> None:
    """Make a tap that stays, with these properties. Raises ``HostError``; then there is none."""
    fds = await host.taps.open(device, 2 if tap.several else 1, tap.vnet_hdr, tap.owner, [properties, silent(device)])
    try:
        # Only now, when it can be told to be ours: whatever ends the daemon before, the kernel cleans up.
        await host.taps.keep(device, fds, tap.group)
    except BaseException:
        await host.taps.close(fds)
        raise


def silent(device: str) -> WriteSysctl:
    """The host must not speak IPv6 on the port itself: that would reach the guest past the bridge and its filter."""
    return WriteSysctl(("net", "ipv6", "conf", device, "disable_ipv6"), "1", optional=True)
