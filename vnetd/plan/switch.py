"""What one switch needs of the kernel, and the steps from what is there to what should be.

``plan_switch`` is pure; the possessions of an uplink are another matter, see ``plan/migration``.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from vnetd.plan.bridge import plan_bridge, plan_sysctls
from vnetd.plan.kernel import CreateBridge, CreateVlan, SetLink
from vnetd.plan.links import Link, PortVlan
from vnetd.plan.steps import KernelStep, Phase, Sysctl
from vnetd.plan.vlans import default_membership, plan_vlans

Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DesiredUplink:
    """A device plugged into the switch; ``made`` is how vnetd makes it, if it is its own.

    ``parent`` is the device behind it, itself if vnetd did not make it. ``mtu`` and ``vlans`` ``None``: as they are.
    """

    port: str
    parent: str
    made: CreateVlan | None = None
    mtu: int | None = None
    vlans: frozenset[PortVlan] | None = None
    migrate: bool = False


@dataclass(frozen=True, slots=True)
class DesiredSwitch:
    """One switch in kernel terms. ``own_vlans`` are the bridge device's; ``None`` on a switch that does not filter."""

    uuid: str
    bridge: CreateBridge
    uplinks: tuple[DesiredUplink, ...] = ()
    sysctls: tuple[Sysctl, ...] = ()
    own_vlans: frozenset[PortVlan] | None = None

    @property
    def migrating(self) -> DesiredUplink | None:
        """The uplink whose possessions hang on the bridge."""
        return next((uplink for uplink in self.uplinks if uplink.migrate), None)

    @property
    def devices(self) -> frozenset[str]:
        """Every device it has to do with."""
        return frozenset({self.bridge.name, *(name for one in self.uplinks for name in (one.port, one.parent))})


@dataclass(frozen=True, slots=True)
class ObservedSwitch:
    """The same as found on the host; ``vlans`` by device, of ports of a switch that filters.

    ``ours``: the bridge has the index of the one vnetd made.
    """

    bridge: Link | None
    links: Mapping[str, Link]
    sysctls: Mapping[Path, str | None] = field(default_factory=dict)
    vlans: Mapping[str, frozenset[PortVlan]] = field(default_factory=dict)
    ours: bool = False


def plan_switch(desired: DesiredSwitch, observed: ObservedSwitch) -> list[KernelStep]:
    """Steps that turn ``observed`` into ``desired``, in order; uplinks that are not there are left out.

    Raises ``ForeignLink`` if the bridge's name is taken by a link that is not ours.
    """
    steps = [
        *plan_bridge(desired.bridge, observed.bridge, observed.ours),
        *plan_sysctls(desired.sysctls, observed.sysctls, observed.bridge is not None),
        *_plan_own_vlans(desired, observed),
    ]
    for uplink in desired.uplinks:
        steps += _plan_uplink(desired, uplink, observed)
    return sorted(steps, key=lambda step: step.phase)


def missing(desired: DesiredSwitch, observed: ObservedSwitch) -> list[str]:
    """Devices behind uplinks that the host has not."""
    return [uplink.parent for uplink in desired.uplinks if uplink.parent not in observed.links]


def plugs_in(steps: list[KernelStep], port: str) -> bool:
    """Whether these steps plug the device into its bridge."""
    return any(
        isinstance(step.operation, SetLink) and step.operation.name == port and step.operation.master for step in steps
    )


def _vlans(desired: DesiredSwitch, observed: ObservedSwitch, name: str, *, there: bool) -> frozenset[PortVlan]:
    """VLANs of a device that is part of the bridge already, or those the kernel gives a new one."""
    if there:
        return observed.vlans.get(name, frozenset())
    return default_membership(desired.bridge.options.default_pvid or 0)


def _plan_own_vlans(desired: DesiredSwitch, observed: ObservedSwitch) -> Iterator[KernelStep]:
    name = desired.bridge.name
    if desired.own_vlans is not None:
        have = _vlans(desired, observed, name, there=observed.bridge is not None)
        for operation in plan_vlans(name, desired.own_vlans, have, own=True):
            yield KernelStep(Phase.PORTS, f"VLANs of bridge {name}", operation)


def _plan_uplink(desired: DesiredSwitch, uplink: DesiredUplink, observed: ObservedSwitch) -> Iterator[KernelStep]:
    parent, have = observed.links.get(uplink.parent), observed.links.get(uplink.port)
    what = f"uplink {uplink.port}"
    if parent is None:
        return
    if uplink.made and have is None:
        yield KernelStep(Phase.PORTS, what, uplink.made)
    if uplink.made and not parent.up:
        yield KernelStep(Phase.PORTS, f"uplink {uplink.parent}", SetLink(uplink.parent, up=True))
    if uplink.mtu is not None and (have is None or have.mtu != uplink.mtu):
        yield KernelStep(Phase.PORTS, f"MTU of uplink {uplink.port}", SetLink(uplink.port, mtu=uplink.mtu))
    plugged = have is not None and observed.bridge is not None and have.master == observed.bridge.index
    if not plugged:
        yield KernelStep(Phase.PORTS, what, SetLink(uplink.port, master=desired.bridge.name))
    if have is None or not have.up:
        yield KernelStep(Phase.PORTS, what, SetLink(uplink.port, up=True))
    if uplink.vlans is not None:
        for operation in plan_vlans(uplink.port, uplink.vlans, _vlans(desired, observed, uplink.port, there=plugged)):
            yield KernelStep(Phase.PORTS, f"VLANs of uplink {uplink.port}", operation)
