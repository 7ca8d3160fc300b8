"""Moves ports between networks and port groups while their guests run.

A move is a change of the port's record like any other: saved first, so that a daemon that is killed finishes it, and
taken back if the host refuses. The device stays up where it can, its filter is in force throughout, and no other port
is touched.
"""

import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from vnetd.model.errors import Busy, Unsupported
from vnetd.model.port import PortRecord
from vnetd.service.network_object import NetworkObject
from vnetd.service.notices import Notices
from vnetd.service.port_changes import PortChanges, refuse_stranger
from vnetd.service.port_object import PortObject, PortTable
from vnetd.service.port_records import port_group, refuse_excess, refuse_foreign_place, with_class
from vnetd.service.views import Caller, Changed, LifecycleEvent

log = logging.getLogger(__name__)


class PortMoves:
    """Gives ports another place."""

    def __init__(self, notices: Notices, ports: PortTable, changes: PortChanges) -> None:
        self._notices = notices
        self._ports = ports
        self._changes = changes

    async def move(self, caller: Caller, port: PortObject, network: NetworkObject) -> None:
        """Plug a port into another network: it gets that one's MTU, isolation and default port group.

        Raises ``Denied`` to strangers and for what only root may take along, ``Busy`` if the network is not active,
        ``Exists`` if another port there has its MAC, ``InUse`` for a floor it cannot promise, ``Unsupported`` between
        networks without bridges.
        """
        refuse_stranger(caller, port)
        async with self._held(port, network) as before:
            if before is network:
                return
            refuse_without_bridge(before, network)
            self._ports.refuse_duplicate(network, port.record.mac)
            await self._changes.mend(port)
            record = _placed(port.record, before, network, None)
            refuse_foreign_place(caller, record, network)
            refuse_excess(caller, record)
            await self._changes.place(port, record, network)
        self._tell(caller, port, before, network)

    async def regroup(self, caller: Caller, port: PortObject, group: str) -> None:
        """Give a port the settings of another port group of its network; empty: of the default one, if any."""
        refuse_stranger(caller, port)
        async with self._held(port, port.network) as network:
            await self._changes.mend(port)
            record = _placed(port.record, network, network, group or None)
            refuse_excess(caller, record)
            if record != port.record:
                await self._changes.place(port, record, network)
        log.info("port %s has port group %s by uid %d", port.name, record.portgroup or "none", caller.uid)
        self._notices.tell(Changed("port", port.view()))

    @asynccontextmanager
    async def _held(self, port: PortObject, network: NetworkObject) -> AsyncIterator[NetworkObject]:
        """Both networks locked, in one order for everybody; yields the one the port is in."""
        before = port.network
        async with AsyncExitStack() as stack:
            for one in sorted({before, network}, key=lambda one: one.uuid):
                await stack.enter_async_context(one.lock)
            self._ports.refuse_gone(port)
            if port.network is not before:
                raise Busy(f"port {port.name} was moved to network {port.network.name} meanwhile")
            for one in (before, network):
                if one.live is None or one.state != "active":
                    raise Busy(f"network {one.name} is not active: start it first")
            yield before

    def _tell(self, caller: Caller, port: PortObject, before: NetworkObject, network: NetworkObject) -> None:
        log.info(
            "port %s moved from network %s to %s by uid %d (pid %d)",
            port.name, before.name, network.name, caller.uid, caller.pid,
        )  # fmt: skip
        self._notices.tell(Changed("port", port.view()))
        for one in (before, network):
            self._notices.tell(Changed("network", one.view()))
        details = {"from": before.name, "to": network.name}
        self._notices.tell(LifecycleEvent("moved", "port", port.uuid, port.name, details))


def refuse_without_bridge(*networks: NetworkObject) -> None:
    """Raise ``Unsupported`` for a network whose ports are in no bridge: their devices belong to a lower device."""
    for network in networks:
        if not network.bridge:
            raise Unsupported(
                f"network {network.name} has no bridge: its ports cannot be moved, and none into it; "
                "detach the port and attach it to the other network"
            )


def _placed(record: PortRecord, before: NetworkObject, network: NetworkObject, group: str | None) -> PortRecord:
    """The record of the port in another place. What it got from its network it gets from the new one."""
    chosen = port_group(network, group)
    inherited = record.mtu is not None and record.mtu == before.mtu
    moved = record.model_copy(
        update={
            "network": network.uuid,
            "portgroup": chosen.name if chosen else None,
            "group_bandwidth": chosen.bandwidth if chosen else None,
            "mtu": network.mtu if inherited else record.mtu,
        }
    )
    return with_class(moved, network)
