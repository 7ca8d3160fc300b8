"""One port on the host: its device, its place in the network's bridge, its filter.

A port is never reachable before its filter is in place: only once the rules are committed it joins the bridge and is
raised, in one breath with being made where it needs nothing else (``placement``), else when it was looked at.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from vnetd.host.commit import Commit
from vnetd.model.errors import HostError, InUse, Unsupported
from vnetd.model.functions import FunctionUse
from vnetd.model.port import PersistentTap
from vnetd.plan.kernel import DeleteLink, Operation, SetLink
from vnetd.plan.links import Link, PortVlan
from vnetd.plan.macvtap import Stacked
from vnetd.plan.passt import PasstInstance
from vnetd.plan.rules import EMPTY, Fragment, port_owner
from vnetd.plan.shaping import Shaping, shaping_of
from vnetd.plan.vlans import default_membership, plan_vlans
from vnetd.reconcile.healer import NOTHING
from vnetd.reconcile.identity import recovered
from vnetd.reconcile.loop import Loop
from vnetd.reconcile.repairs import Repairs
from vnetd.reconcile.shaping import Shaper
from vnetd.reconcile.tap import make_tap

log = logging.getLogger(__name__)

T = TypeVar("T")
Seen = tuple[Link | None, Link | None]
"""A port's device, and its bridge or the device it is on."""


@dataclass(frozen=True, slots=True)
class Inside:
    """Where a port is that is in no bridge: the link ``name`` in namespace ``number``, on the host's ``lower``."""

    number: int
    name: str
    lower: str


@dataclass(frozen=True, slots=True)
class DesiredPort:
    """A port in kernel terms. ``alias`` is empty for a device vnetd did not make, which is never deleted.

    ``vlans`` are those it takes part in, ``None``: whatever the bridge gives it.

    ``mac`` is that of the host's side, ``None`` if it is not vnetd's to set. A ``fleeting`` one is a tap that goes with
    the last of its queues.
    """

    uuid: str
    device: str
    bridge: str
    alias: str
    mac: str | None
    mtu: int | None
    isolated: bool
    fragment: Fragment
    up: bool = True
    fleeting: bool = False
    shaping: Shaping | None = None
    vlans: frozenset[PortVlan] | None = None
    plug: Stacked | FunctionUse | PasstInstance | Inside | None = None
    """What a port that joins no bridge needs instead; its ``bridge`` is empty."""
    tap: PersistentTap | None = None
    place: Fragment = EMPTY
    """Rules beside its filter's. Those of a macvtap are at its device, so it must be there."""

    @property
    def properties(self) -> SetLink:
        """What a new device of vnetd's gets before all else: the tag that says it is ours, MAC, MTU."""
        return SetLink(self.device, mac=self.mac, mtu=self.mtu, alias=self.alias)


class Watcher(Protocol):
    """Who is told what became of a port."""

    def ended(self, uuid: str) -> None:
        """Its device is gone for good."""
        ...

    def tampered(self, uuid: str, text: str) -> None:
        """Who holds its tap did what only a hostile holder does; the port was set down."""
        ...


def place_owner(uuid: str) -> str:
    """Owner of the rules a port has for its place in a network, whatever its filter."""
    return f"place:{uuid}"


def plan_port(
    want: DesiredPort, have: Link, bridge: Link, vlans: frozenset[PortVlan] = frozenset()
) -> list[tuple[str, Operation]]:
    """Steps that put a port's device where it belongs; names of what is repaired beside them.

    ``vlans`` are those it takes part in now. One that joins is up only once it is out of the bridge's default one.
    """
    steps: list[tuple[str, Operation]] = []
    if have.up and not want.up:
        steps.append((f"port {want.device}", SetLink(want.device, up=False)))
    if want.mac is not None and have.mac != want.mac:
        steps.append((f"MAC of port {want.device}", SetLink(want.device, mac=want.mac)))
    if want.mtu is not None and have.mtu != want.mtu:
        steps.append((f"MTU of port {want.device}", SetLink(want.device, mtu=want.mtu)))
    moves = have.master != bridge.index
    restricted = want.isolated or want.vlans is not None
    closed = moves and restricted and have.up
    raised = want.up and (closed or not have.up)
    if moves:
        if closed:  # it joins the bridge as any other port, and is isolated only then
            steps.append((f"port {want.device}", SetLink(want.device, up=False)))
        joined = SetLink(want.device, master=want.bridge, up=True if raised and not restricted else None)
        steps.append((f"port {want.device}", joined))
    if want.isolated if moves else have.isolated != want.isolated:
        steps.append((f"isolation of port {want.device}", SetLink(want.device, isolated=want.isolated)))
    if want.vlans is not None:
        given = bridge.bridge.default_pvid if moves and bridge.bridge else None
        present = default_membership(given or 0) if moves else vlans
        changes = plan_vlans(want.device, want.vlans, present)
        steps += [(f"VLANs of port {want.device}", operation) for operation in changes]
    if raised and (restricted or not moves):
        steps.append((f"port {want.device}", SetLink(want.device, up=True)))
    return steps


def placement(want: DesiredPort) -> tuple[SetLink, ...]:
    """What puts a device as it is made in its bridge, once its filter is in force; nothing where more is to be done.

    Limits come before it, and VLANs are told from those a bridge gives.
    """
    if want.plug or want.vlans is not None or (want.shaping and not want.shaping.empty):
        return ()
    made = Link(0, want.device, "", want.mac or "", want.mtu or 0, up=False)
    steps = plan_port(want, made, Link(1, want.bridge, "bridge", "", 0, up=True))
    return tuple(operation for _, operation in steps if isinstance(operation, SetLink))


class PortTarget:
    """Keeps one port in its bridge."""

    def __init__(self, loop: Loop, desired: DesiredPort, watcher: Watcher) -> None:
        self.key = port_owner(desired.uuid)
        self.place_key = place_owner(desired.uuid)
        self.lock = asyncio.Lock()
        self.desired = desired
        self.repairs = Repairs()
        self.shaper = Shaper(loop, self.key, self.repairs)
        self._placed = False
        self._resumed = False
        self._index = 0  # of the device, once it was seen
        self._host = loop.host
        self._rules = loop.rules
        self._devices = loop.devices
        self._watcher = watcher

    async def converge(self, seen: Seen | None = None, *, spare: frozenset[str] = NOTHING) -> tuple[str, ...]:
        """Make it as desired; returns what was repaired. It is one thing: nothing is done while some of it is spared.

        ``seen`` is what ``observe`` found since the target's lock was taken, so that it need not look again. What
        somebody else changed meanwhile has its own event, and is looked at once the lock is free.
        """
        self.repairs.look()
        return () if spare else await self._converge(seen)

    async def _converge(self, seen: Seen | None) -> tuple[str, ...]:
        """Filter first, then the device: limited, in the bridge, up, isolated as wanted."""
        await self.write_rules()
        there, bridge = seen or await self._look()
        device = await self._recover(there)
        if device is None or await self._deserted(device):
            self._gone()
            return ()
        device = await self._retaken(device)
        self._index = device.index
        self._devices.seen(self.key, device.index)
        self._look_for_tampering(device)
        await self.shaper.converge(device, self.desired.shaping)
        if bridge is None:  # the network's own look brings it back and touches its ports
            return self.repairs.done()
        self._refuse_foreign_master(device, bridge)
        steps = plan_port(self.desired, device, bridge, await self._vlans(device, bridge))
        self.repairs.begin(*(what for what, _ in steps))
        await self._host.kernel.apply([operation for _, operation in steps])
        self._placed = True
        return self.repairs.done()

    async def observe(self) -> Seen | None:
        """The device and its bridge as they are now; nothing for a port that joins none."""
        return None if self.desired.plug else await self._look()

    async def write_rules(self) -> None:
        """Put the filter and the rules of the port's place in force."""
        if changes := self._differing():
            await self._rules.put(changes)

    async def write_rules_by(self, work: Callable[[Commit], Awaitable[T]]) -> T:
        """``write_rules`` by who makes the device, in the same hop; what ``work`` returns."""
        return await self._rules.put_by(self._differing(), work)

    def _differing(self) -> dict[str, Fragment | None]:
        wanted = {"filter": (self.key, self.desired.fragment), "rules": (self.place_key, self.desired.place)}
        differing = {
            what: (owner, fragment)
            for what, (owner, fragment) in wanted.items()
            if (self._rules.fragment(owner) or EMPTY) != fragment
        }
        self.repairs.begin(*differing)
        return dict(differing.values())

    async def take_down(self) -> None:
        """Take the port out: the device vnetd made is deleted, another's leaves the bridge; rules go last."""
        removal: Operation
        device = await self._recover(await self._host.kernel.link(self.desired.device))
        if self.desired.alias:
            removal = DeleteLink(self.desired.device, self.desired.alias)
            await self._host.kernel.apply([removal])
        elif device:
            await self.shaper.converge(device, shaping_of(self.desired.uuid, None))
            if await self._enslaved():
                await self._host.kernel.apply([SetLink(self.desired.device, master="")])
        await self.clear()

    async def clear(self) -> None:
        """The device is gone: what remains of the port goes too, its rules last."""
        await self.shaper.clear(self.desired.shaping)
        await self._rules.put({self.key: None, self.place_key: None})

    def doubt(self) -> None:
        """Nothing is known of what an earlier run of the daemon left; it may have ended while it moved the port."""
        self._resumed = True
        self.shaper.doubt()

    def refilter(self, fragment: Fragment) -> None:
        """The port's rules are to be these; the caller commits them."""
        if fragment is not self.desired.fragment:
            self.desired = replace(self.desired, fragment=fragment)

    async def _recover(self, device: Link | None) -> Link | None:
        """The port's device, ``device`` being what has its name, with name and alias given back if they were taken."""
        kernel, want = self._host.kernel, self.desired
        if want.alias:
            return await recovered(kernel, device, want.device, want.alias, self._index, self.repairs)
        if device is None and self._index and (renamed := await kernel.link_at(self._index)):
            # A device of somebody else's, which may call it what he likes: but then our rules miss it.
            await kernel.apply([SetLink(renamed.name, master="")])
            log.warning("%s was renamed to %s and is no port any more: attach it anew", want.device, renamed.name)
            self._watcher.ended(want.uuid)
        return device

    async def _deserted(self, device: Link) -> bool:
        """Delete a tap that outlived its last queue, as its holder made it persistent; whether it did."""
        tun = device.tun
        deserted = self.desired.fleeting and tun is not None and tun.persist and await self._deleted_unheld(device)
        if deserted:
            log.warning("port %s was made persistent by its last holder, who is gone: it is deleted", device.name)
        return deserted

    async def _retaken(self, device: Link) -> Link:
        """Make a persistent tap anew that a holder gave to others, as soon as nobody has it open.

        The kernel lets nobody take an owner or group away again, and while it is held that harms no other.
        """
        tap, tun = self.desired.tap, device.tun
        given = tap and tun and (tun.owner, tun.group) != (tap.owner, tap.group)
        if tap is None or not given or not await self._deleted_unheld(device):
            return device
        self.repairs.begin(f"owner of port {device.name}")
        await make_tap(self._host, device.name, tap, self.desired.properties)
        made = await self._host.kernel.link(device.name)
        if made is None:
            raise HostError("create tap", device.name, "it went as soon as it was made")
        return made

    async def _deleted_unheld(self, device: Link) -> bool:
        """Delete a persistent tap if nobody has it open; whether it did."""
        if device.tun is None or device.tun.queues:
            return False
        if device.tun.queues is None:
            return await self._host.taps.reclaim(device.name)
        await self._host.kernel.apply([DeleteLink(device.name, device.alias)])
        return True

    def _look_for_tampering(self, device: Link) -> None:
        """Have a port down whose holder gave the host's side another MAC: the bridge takes that for its own."""
        if device.tun and self.desired.mac not in {None, device.mac}:
            self._tampered(f"the holder of {device.name} gave the host's side of it the MAC address {device.mac}")

    def _tampered(self, text: str) -> None:
        self.desired = replace(self.desired, up=False)
        self._watcher.tampered(self.desired.uuid, text)

    async def _vlans(self, device: Link, bridge: Link) -> frozenset[PortVlan]:
        """Those the device takes part in. Raises ``Unsupported`` if it is to, on a bridge that does not filter."""
        if self.desired.vlans is None:
            return frozenset()
        if bridge.bridge is None or not bridge.bridge.vlan_filtering:
            raise Unsupported(
                f"port {device.name} is to be in VLANs, but bridge {bridge.name} does not filter by VLAN: "
                "use a switch with vlan_filtering"
            )
        return await self._host.kernel.port_vlans(device.name)

    async def _look(self) -> Seen:
        device, bridge = await self._host.kernel.links_named((self.desired.device, self.desired.bridge))
        return device, bridge

    async def _enslaved(self) -> bool:
        device, bridge = await self._look()
        return bool(device and bridge and device.master == bridge.index)

    def _refuse_foreign_master(self, device: Link, bridge: Link) -> None:
        if device.master and device.master != bridge.index and not (self._placed or self._resumed):
            raise InUse(f"device {device.name} belongs to another bridge already: take it out first")

    def _gone(self) -> None:
        if self.desired.alias:
            self._watcher.ended(self.desired.uuid)
        elif not self._placed:
            raise HostError("attach", self.desired.device, "there is no such network device")
