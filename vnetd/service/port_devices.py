"""Makes the device of a port, down and outside of any bridge."""

import os

from vnetd.host.protocols import Host
from vnetd.model.errors import Invalid
from vnetd.model.port import PortKind, PortRecord, PortSpec
from vnetd.plan.kernel import CreateVeth, DeleteLink, SetLink, WriteSysctl
from vnetd.reconcile.desired import DEFAULT_MTU
from vnetd.reconcile.port import DesiredPort
from vnetd.service.naming import host_side_mac


class PortDevices:
    """Devices by kind of port."""

    def __init__(self, host: Host) -> None:
        self._host = host

    async def make(self, record: PortRecord, spec: PortSpec, desired: DesiredPort) -> tuple[int, ...]:
        """Make the device and tag it ours; returns open queues of a tap that lives as long as they do."""
        if record.kind is PortKind.VETH:
            await self._veth(record, spec, desired)
        elif record.kind is PortKind.TAP:
            await self._persistent_tap(record, spec, desired)
        elif record.kind is PortKind.TAP_FD:
            fds = tuple(await self._host.taps.open(record.device, spec.queues, spec.vnet_hdr))
            try:
                await self._tag(record, desired)
            except BaseException:
                await self._host.taps.close(fds)
                raise
            return fds
        return ()

    async def _persistent_tap(self, record: PortRecord, spec: PortSpec, desired: DesiredPort) -> None:
        await self._host.taps.create_persistent(record.device, spec.owner, spec.group, spec.vnet_hdr)
        try:
            await self._tag(record, desired)
        except BaseException:
            # Made just now by nobody else, for a name that is taken is refused; later its tag would be asked for.
            await self._host.kernel.apply([DeleteLink(record.device, "")])
            raise

    async def finish(self, spec: PortSpec, record: PortRecord) -> None:
        """What can be done only once the port is in its bridge: raise the guest's end of a veth."""
        if record.kind is PortKind.VETH:
            namespace = await self._namespace(spec)
            try:
                await self._host.namespaces.configure_peer(namespace, spec.guest_device)
            finally:
                os.close(namespace)

    async def _veth(self, record: PortRecord, spec: PortSpec, desired: DesiredPort) -> None:
        namespace = await self._namespace(spec)
        try:
            pair = CreateVeth(
                name=record.device,
                mac=host_side_mac(record.mac),
                peer_name=spec.guest_device,
                peer_mac=record.mac,
                peer_netns=namespace,
                mtu=record.mtu or DEFAULT_MTU,
                alias=desired.alias,
            )
            await self._host.kernel.apply([pair, _silent(record)])
        finally:
            os.close(namespace)

    async def _tag(self, record: PortRecord, desired: DesiredPort) -> None:
        await self._host.kernel.apply(
            [
                SetLink(record.device, mac=host_side_mac(record.mac), mtu=record.mtu, alias=desired.alias),
                _silent(record),
            ]
        )

    async def _namespace(self, spec: PortSpec) -> int:
        if not spec.netns:
            raise Invalid("netns is missing: kind 'veth' needs the guest's network namespace (name, path or pid)")
        return await self._host.namespaces.open(spec.netns)


def _silent(record: PortRecord) -> WriteSysctl:
    """The host must not speak IPv6 on the port itself: that would reach the guest past the bridge and its filter."""
    return WriteSysctl(("net", "ipv6", "conf", record.device, "disable_ipv6"), "1", optional=True)
