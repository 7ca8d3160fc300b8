"""What is on the host of one switch, read device by device."""

from vnetd.host.protocols import Kernel
from vnetd.plan.switch import DesiredSwitch, ObservedSwitch
from vnetd.reconcile.own_bridge import OwnBridge


async def observe_switch(kernel: Kernel, desired: DesiredSwitch, bridge: OwnBridge) -> ObservedSwitch:
    """The switch's devices, sysctls and VLANs as they are now. Raises ``HostError``."""
    links = {name: link for name in sorted(desired.devices) if (link := await kernel.link(name))}
    found = links.get(desired.bridge.name)
    filtering = desired.own_vlans is not None
    ports = sorted({desired.bridge.name, *(uplink.port for uplink in desired.uplinks)} & links.keys())
    return ObservedSwitch(
        bridge=found,
        links=links,
        sysctls=await kernel.sysctls([sysctl.path for sysctl in desired.sysctls]) if found else {},
        vlans={name: await kernel.port_vlans(name) for name in ports} if filtering else {},
        ours=bridge.is_ours(desired.bridge, found),
    )
