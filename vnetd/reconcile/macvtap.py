"""One macvtap port on the host: a device of its own on one of the host's, which it may have for itself alone."""

from vnetd.plan.kernel import DeleteLink, SetLink
from vnetd.plan.links import Link
from vnetd.plan.macvtap import Stacked
from vnetd.reconcile.port import DesiredPort, PortTarget, Seen


def plan_macvtap(want: DesiredPort, stack: Stacked, have: Link, lower: Link) -> list[tuple[str, SetLink]]:
    """Steps that make a macvtap and its lower device work; names of what is repaired beside them."""
    steps: list[tuple[str, SetLink]] = []
    if stack.former_mac and lower.mac != stack.mac:
        steps.append((f"MAC address of {lower.name}", SetLink(lower.name, mac=stack.mac)))
    elif have.mac != stack.mac:
        steps.append((f"MAC address of port {want.device}", SetLink(want.device, mac=stack.mac)))
    mtu = min(want.mtu or lower.mtu, lower.mtu)  # the kernel takes no more than the lower device's
    if have.mtu != mtu:
        steps.append((f"MTU of port {want.device}", SetLink(want.device, mtu=mtu)))
    if not lower.up:
        steps.append((f"network device {lower.name}", SetLink(lower.name, up=True)))
    if have.up is not want.up:
        steps.append((f"port {want.device}", SetLink(want.device, up=want.up)))
    return steps


def macvtap_placement(want: DesiredPort, have: Link, lower: Link) -> list[SetLink]:
    """What makes a new macvtap work once its rules are in force."""
    assert isinstance(want.plug, Stacked)
    return [operation for _, operation in plan_macvtap(want, want.plug, have, lower)]


class MacvtapTarget(PortTarget):
    """Keeps one macvtap; it ends with its device, its lower device, or the last who holds what was handed out."""

    async def _converge(self, seen: Seen | None) -> tuple[str, ...]:
        """The device with its rules, up on its lower device, with MAC and MTU."""
        stack = self._stack
        there, lower = seen or await self._host.kernel.links_named((self.desired.device, stack.lower))
        device = await self._recover(there)
        if device is None or lower is None:  # the kernel deletes it with its lower device
            self._gone()
            return ()
        self._index = device.index
        self._devices.seen(self.key, device.index)
        self._devices.watch(stack.lower, self.key)
        if stack.handed_out and not await self._host.macvtaps.held(device.name, device.index):
            self._watcher.ended(self.desired.uuid)
            return ()
        self._look_for_tampering(device)
        await self.write_rules()
        steps = plan_macvtap(self.desired, stack, device, lower)
        self.repairs.begin(*(what for what, _ in steps))
        await self._host.kernel.apply([operation for _, operation in steps])
        self._placed = True
        return self.repairs.done()

    async def clear(self) -> None:
        """The device goes if it is there still, held by nobody; the lower device gets its own MAC address back."""
        stack, want = self._stack, self.desired
        await self._host.kernel.apply([DeleteLink(want.device, want.alias)])
        lower = await self._host.kernel.link(stack.lower) if stack.former_mac else None
        if lower and stack.former_mac and lower.mac == stack.mac:
            await self._host.kernel.apply([SetLink(stack.lower, mac=stack.former_mac)])
        await super().clear()

    def _look_for_tampering(self, device: Link) -> None:
        """Have a port down whose holder took another MAC: what guests beside it send there would be the holder's.

        Who has a card alone takes its own only.
        """
        stack = self._stack
        if not stack.former_mac and device.mac != stack.mac:
            self._tampered(f"the holder of {device.name} gave it the MAC address {device.mac}")

    @property
    def _stack(self) -> Stacked:
        assert isinstance(self.desired.plug, Stacked)
        return self.desired.plug
