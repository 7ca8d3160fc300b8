"""A network over devices of the host's: a bridge that is there already, or a pool of network cards.

Nothing of it is made, changed or deleted by vnetd but the host's own device beside macvtap guests. What it needs is
watched: while something is away the network says so, and when it returns its ports are looked at again.
"""

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass, field

from vnetd.model.base import IPInterface
from vnetd.model.errors import InUse, Invalid, VnetError
from vnetd.model.network import Mode, Network
from vnetd.plan.kernel import AddAddress, CreateMacvlan, DeleteAddress, DeleteLink, Operation, SetLink
from vnetd.plan.links import LinkView
from vnetd.plan.network import network_owner
from vnetd.plan.rules import EMPTY, Fragment
from vnetd.reconcile.absent import Absent
from vnetd.reconcile.desired import DEFAULT_MTU, alias_of
from vnetd.reconcile.healer import NOTHING
from vnetd.reconcile.loop import Loop
from vnetd.reconcile.repairs import Repairs


@dataclass(frozen=True, slots=True)
class HostSide:
    """The host's own device on a lower device, and its addresses."""

    device: CreateMacvlan
    addresses: tuple[IPInterface, ...]


@dataclass(frozen=True, slots=True)
class DesiredBorrowed:
    """What a network needs of the host: a ``bridge``, or ``lowers``, the devices its ports are made on."""

    uuid: str
    bridge: str = ""
    lowers: tuple[str, ...] = ()
    host_side: HostSide | None = None
    fragment: Fragment = field(default=EMPTY)


def desired_borrowed(network: Network) -> DesiredBorrowed:
    """What ``network``, of a mode without a bridge of vnetd's, needs."""
    uuid, devices = str(network.uuid), network.devices
    if network.mode is Mode.BRIDGE:
        return DesiredBorrowed(uuid, bridge=str(network.bridge.name))
    lowers = (devices.pf,) if devices.pf else devices.interfaces
    return DesiredBorrowed(uuid, lowers=lowers, host_side=_host_side(network, uuid))


def host_device(uuid: str) -> str:
    """Name of the host's own device beside a network's macvtap guests: ``vh-`` and the UUID's first 12 digits."""
    return f"vh-{uuid.replace('-', '')[:12]}"


def _host_side(network: Network, uuid: str) -> HostSide | None:
    if network.mode is not Mode.MACVTAP or not network.host_access:
        return None
    device = CreateMacvlan(
        name=host_device(uuid),
        kind="macvlan",
        lower=network.devices.interfaces[0],
        mode=str(network.macvtap_mode),
        mac=f"52:54:00:{uuid[-6:-4]}:{uuid[-4:-2]}:{uuid[-2:]}",
        alias=alias_of("network", uuid),
    )
    return HostSide(device, tuple(address.address for address in network.addresses))


class BorrowedTarget:
    """Watches what one network needs; its holder takes ``lock`` around every call."""

    def __init__(self, loop: Loop, desired: DesiredBorrowed) -> None:
        self.key = network_owner(desired.uuid)
        self.lock = asyncio.Lock()
        self.desired = desired
        self.remains = False
        """Whether a failed start left something that could not be taken away."""
        self.lacking = False
        """Whether something was away when it was brought up: to be looked at again, so that it is shown."""
        self.mtu = DEFAULT_MTU
        """Of the bridge, as last seen: what its ports get, for a bridge takes the smallest MTU of its ports."""
        self._devices = loop.devices
        self._healer = loop.healer
        self._host = loop.host
        self.repairs = Repairs()

    async def bring_up(self, intent: Awaitable[object]) -> None:
        """Once ``intent`` is done, make the host's device; what is absent may come later (at boot).

        On failure nothing is left.
        """
        await intent
        try:
            await self.converge()
        except Absent:
            self.lacking = True
        except BaseException as failure:
            await self._undo(failure)
            raise

    async def change(self, desired: DesiredBorrowed) -> None:
        """Become ``desired``; if that fails, what it was, and raise."""
        await self._healer.mend(self.key)
        before, self.desired = self.desired, desired
        try:
            await self._drop_others(before)
            await self.converge()
        except BaseException:
            self.desired = before
            await self._drop_others(desired)
            raise

    async def converge(self, *, spare: frozenset[str] = NOTHING) -> tuple[str, ...]:
        """Look for what is needed, repair the host's own device unless it is spared.

        Raises ``Absent`` for what is not there.
        """
        self.repairs.look()
        for name in (*self.desired.lowers, *filter(None, [self.desired.bridge])):
            self._devices.watch(name, self.key)
        if self.desired.bridge:
            await self._look_at_bridge(self.desired.bridge)
        missing = [name for name in self.desired.lowers if await self._host.kernel.link(name) is None]
        side = self.desired.host_side
        if side and side.device.lower not in missing and not spare:
            await self._place(side)
        if missing:
            raise Absent(f"network device {', '.join(missing)} is not there: ports that need it wait for it")
        return self.repairs.done()

    async def take_down(self) -> None:
        """Remove the host's own device; all else stays as it is."""
        if side := self.desired.host_side:
            await self._host.kernel.apply([DeleteLink(side.device.name, side.device.alias)])

    async def _look_at_bridge(self, name: str) -> None:
        bridge = await self._host.kernel.link(name)
        if bridge is None:
            raise Absent(f"bridge {name} is not there: its ports wait for it")
        if bridge.kind != "bridge":
            raise Invalid(f"{name} is no bridge, and a network of mode bridge needs one")
        self.mtu = bridge.mtu

    async def _place(self, side: HostSide) -> None:
        """The host's device as it shall be."""
        want, kernel = side.device, self._host.kernel
        self._devices.claim(want.name, self.key)
        view = await kernel.view(want.name)
        if view and view.link.alias != want.alias:
            raise InUse(f"a network device {want.name} exists that vnetd did not make: remove it")
        lower = await kernel.link(want.lower)
        operations: list[Operation] = [] if lower is None or lower.up else [SetLink(want.lower, up=True)]
        operations += [] if view else [want]
        operations += _differences(side, view)
        if operations:
            self.repairs.begin(f"device {want.name}")
            await kernel.apply(operations)

    async def _drop_others(self, before: DesiredBorrowed) -> None:
        """Take the host's device of an earlier form away where it is another one, or its addresses."""
        old, new = before.host_side, self.desired.host_side
        if not old or old == new:
            return
        if not new or old.device != new.device:
            await self._host.kernel.apply([DeleteLink(old.device.name, old.device.alias)])
            return
        gone = [address for address in old.addresses if address not in new.addresses]
        await self._host.kernel.apply([DeleteAddress(old.device.name, address) for address in gone])

    async def _undo(self, failure: BaseException) -> None:
        if isinstance(failure, InUse):
            return
        try:
            await self.take_down()
            self.remains = False
        except VnetError as error:
            self.remains = True
            failure.add_note(f"and undoing it failed: {error}")


def _differences(side: HostSide, view: LinkView | None) -> list[Operation]:
    name, operations = side.device.name, list[Operation]()
    if view and view.link.mac != side.device.mac:
        operations.append(SetLink(name, mac=side.device.mac))
    if not view or not view.link.up:
        operations.append(SetLink(name, up=True))
    have = view.addresses if view else frozenset()
    return operations + [AddAddress(name, address) for address in side.addresses if address not in have]
