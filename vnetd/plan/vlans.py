"""VLANs of bridge ports: what a document says, as the kernel holds it, and from what is there to what should be.

Source: libvirt's network format, ``<vlan>``; IEEE 802.1Q for the numbers.
"""

from collections.abc import Iterable, Iterator

from vnetd.model.errors import Invalid
from vnetd.model.network_ports import Vlan
from vnetd.plan.kernel import AddPortVlan, DeletePortVlan
from vnetd.plan.links import PortVlan

RESERVED = frozenset({0, 4095})


def memberships(vlan: Vlan) -> frozenset[PortVlan]:
    """Membership of a port: one tag makes an access port, several or ``trunk`` carry tags but for the native one.

    Raises ``Invalid`` for 0 and 4095, which no port can be in.
    """
    for tag in vlan.tags:
        if tag.id in RESERVED:
            raise Invalid(f"VLAN {tag.id} is reserved: a port can be in 1 to 4094")
    if not (vlan.trunk or vlan.tags[0].native):
        return frozenset({PortVlan(vlan.tags[0].id, pvid=True, untagged=True)})
    return frozenset(
        PortVlan(tag.id, pvid=tag.native is not None, untagged=tag.native == "untagged") for tag in vlan.tags
    )


def default_membership(pvid: int) -> frozenset[PortVlan]:
    """Membership of a port nothing is said of; ``pvid`` 0: in none."""
    return frozenset({PortVlan(pvid, pvid=True, untagged=True)}) if pvid else frozenset()


def trunk(pvid: int, tagged: Iterable[int]) -> frozenset[PortVlan]:
    """Membership of an uplink that carries these VLANs with their tags and the default one without."""
    return default_membership(pvid) | {PortVlan(number) for number in tagged if number != pvid}


def plan_vlans(
    name: str, want: frozenset[PortVlan], have: frozenset[PortVlan], *, own: bool = False
) -> Iterator[AddPortVlan | DeletePortVlan]:
    """Operations that make a port's membership this one; ``own``: of the bridge itself. New ones come first."""
    yield from (AddPortVlan(name, vlan, own) for vlan in sorted(want - have, key=lambda vlan: vlan.id))
    numbers = {vlan.id for vlan in want}
    yield from (
        DeletePortVlan(name, vlan.id, own) for vlan in sorted(have, key=lambda vlan: vlan.id) if vlan.id not in numbers
    )
