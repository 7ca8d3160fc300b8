"""From a switch the user described to what the kernel must hold, normalised as in ``desired``.

Source of the bounds: IEEE 802.1D, table 8-3, which the kernel holds bridges to.
"""

from collections.abc import Iterable

from vnetd.model.switch import Switch, Uplink
from vnetd.plan.kernel import CreateBridge, CreateVlan
from vnetd.plan.links import BridgeOptions
from vnetd.plan.switch import DesiredSwitch, DesiredUplink
from vnetd.plan.vlans import default_membership, memberships, trunk
from vnetd.reconcile.desired import DEFAULT_MTU, alias_of

DEFAULT_PVID = 1


def desired_switch(switch: Switch, carried: Iterable[int] = ()) -> DesiredSwitch:
    """What the host must hold for ``switch``, which has uuid, bridge and MAC.

    ``carried`` are the VLANs of its ports, which its uplinks take part in where nothing else is said. Raises
    ``Invalid`` for a VLAN no port can be in.
    """
    uuid, name = str(switch.uuid), str(switch.bridge)
    pvid = DEFAULT_PVID if switch.default_pvid is None else switch.default_pvid
    host = memberships(switch.host_access) if switch.host_access else default_membership(pvid)
    tagged = {*carried, *(vlan.id for vlan in host)}
    return DesiredSwitch(
        uuid=uuid,
        bridge=_bridge(switch, name, pvid),
        uplinks=tuple(_uplink(switch, uplink, pvid, tagged) for uplink in switch.uplinks),
        own_vlans=host if switch.vlan_filtering else None,
    )


def _bridge(switch: Switch, name: str, pvid: int) -> CreateBridge:
    return CreateBridge(
        name=name,
        mac=str(switch.mac),
        mtu=switch.mtu or DEFAULT_MTU,
        stp=switch.stp,
        # Without STP a delay would only keep every port closed for that time.
        forward_delay=switch.forward_delay * 100 if switch.stp else 0,
        alias=alias_of("switch", str(switch.uuid)),
        options=BridgeOptions(
            priority=switch.priority,
            hello_time=switch.hello_time * 100,
            max_age=switch.max_age * 100,
            ageing_time=switch.ageing_time * 100,
            multicast_snooping=switch.multicast_snooping,
            default_pvid=pvid if switch.vlan_filtering else None,
            vlan_filtering=switch.vlan_filtering,
        ),
    )


def _uplink(switch: Switch, uplink: Uplink, pvid: int, tagged: Iterable[int]) -> DesiredUplink:
    made = None
    if uplink.vlan is not None:
        made = CreateVlan(uplink.port, uplink.device, uplink.vlan, alias_of("switch", str(switch.uuid)))
    vlans = memberships(uplink.vlans) if uplink.vlans else trunk(pvid, tagged)
    return DesiredUplink(
        port=uplink.port,
        parent=uplink.device,
        made=made,
        mtu=None if made else switch.mtu,
        vlans=vlans if switch.vlan_filtering else None,
        migrate=uplink.migrate,
    )
