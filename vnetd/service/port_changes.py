"""How a port changes while its guest runs: one way for every property.

The new record is saved, what is desired replaced, the host brought there; if any of it fails everything is as it was.
"""

import logging
from collections.abc import Callable, Mapping
from functools import partial

from vnetd.model.errors import Denied, VnetError
from vnetd.model.port import PortRecord
from vnetd.reconcile.healer import Healer
from vnetd.reconcile.port import DesiredPort
from vnetd.service import reservations
from vnetd.service.filters import FilterService
from vnetd.service.network_object import NetworkObject
from vnetd.service.notices import Notices
from vnetd.service.port_lifecycle import PortLifecycle
from vnetd.service.port_object import PortObject, PortTable
from vnetd.service.port_records import refuse_excess, with_class
from vnetd.service.port_spec import validated
from vnetd.service.port_wishes import PortWishes
from vnetd.service.views import Caller, Changed

log = logging.getLogger(__name__)


class PortChanges:
    """Changes properties of whole ports."""

    def __init__(
        self,
        notices: Notices,
        healer: Healer,
        ports: PortTable,
        filters: FilterService,
        wishes: PortWishes,
        lifecycle: PortLifecycle,
    ) -> None:
        self._notices = notices
        self._healer = healer
        self._ports = ports
        self._filters = filters
        self._wishes = wishes
        self._lifecycle = lifecycle

    async def change(self, caller: Caller, port: PortObject, **fields: object) -> bool:
        """Give fields of the port's record these values; whether that changed anything.

        Raises ``Denied`` to those who may not, ``NotFound`` if the port ended meanwhile, ``Invalid`` for a value no
        port can have, and what the host refuses.
        """
        refuse_stranger(caller, port)
        changed = await self._change(port, fields, partial(refuse_excess, caller))
        if changed:
            log.info("%s of port %s changed by uid %d (pid %d)", ", ".join(fields), port.name, caller.uid, caller.pid)
        return changed

    async def introduce(self, port: PortObject, mac: str) -> None:
        """The guest's first packet came from ``mac``. Raises ``Exists`` if that is another guest's."""
        self._ports.refuse_duplicate(port.network, mac)
        await self._change(port, {"mac": mac, "made_for": port.record.mac, "unseen": False})
        self._ports.note_mac(port)

    async def _change(
        self, port: PortObject, fields: Mapping[str, object], check: Callable[[PortRecord], None] = lambda _: None
    ) -> bool:
        async with port.target.lock, self._filters.changing:
            self._ports.refuse_gone(port)
            await self._healer.mend(port.target.key)
            record = with_class(validated(PortRecord, {**dict(port.record), **fields}), port.network)
            if record == port.record:
                return False
            check(record)
            await self._realise(port, record, port.network)
        self._notices.tell(Changed("port", port.view()))
        return True

    async def mend(self, port: PortObject) -> None:
        """Have repaired what has drifted, before it gets another place: as drift, and no part of that."""
        async with port.target.lock:
            await self._healer.mend(port.target.key)

    async def place(self, port: PortObject, record: PortRecord, network: NetworkObject) -> None:
        """Make the record that of the port, in ``network``, which may be another than its own; both are locked."""
        async with port.target.lock, self._filters.changing:
            self._ports.refuse_gone(port)
            await self._realise(port, record, network)

    async def follow(self, network: NetworkObject) -> None:
        """The network is another now: what its ports get from it by reference is too."""
        for port in self._ports.of(network):
            try:
                async with port.target.lock, self._filters.changing:
                    desired = self._wishes.desired(port.record, network)
                    if desired == port.target.desired or self._ports.kept.by_uuid(port.uuid) is not port:
                        continue
                    await self._healer.mend(port.target.key)
                    port.target.desired = desired
                    await port.target.converge()
            except VnetError as error:
                log.warning("port %s cannot follow network %s: %s", port.name, network.name, error)
                self._healer.touch(port.target.key)
            self._notices.tell(Changed("port", port.view()))

    async def _realise(self, port: PortObject, record: PortRecord, network: NetworkObject) -> None:
        before, former = port.record, port.network
        desired = self._wishes.desired(record, network)
        await self._lifecycle.save(record)
        try:
            self._set(port, record, network, desired)
            await reservations.hold(network, record)
            await port.target.converge()
            if network is not former:
                await reservations.release(former, port.uuid)
        except BaseException as failure:
            await self._go_back(port, before, former, failure)
            raise
        self._wishes.note_use(record, network)

    async def _go_back(
        self, port: PortObject, before: PortRecord, former: NetworkObject, failure: BaseException
    ) -> None:
        if port.record.tampered != before.tampered:  # what its holder did meanwhile was done
            done = {"tampered": port.record.tampered, "blocked": port.record.blocked}
            before = before.model_copy(update=done)
        network = port.network
        self._set(port, before, former, self._wishes.desired(before, former))
        try:
            await self._lifecycle.save(before)
            await reservations.hold(former, before)
            await port.target.converge()
            if network is not former:
                await reservations.release(network, port.uuid)
        except VnetError as error:
            failure.add_note(f"and going back failed: {error}")

    def _set(self, port: PortObject, record: PortRecord, network: NetworkObject, desired: DesiredPort) -> None:
        port.record, port.target.desired = record, desired
        if port.network is not network:
            self._ports.move(port, network)


def refuse_stranger(caller: Caller, port: PortObject) -> None:
    """Raise ``Denied`` to whoever is neither the owner of the port nor an administrator."""
    if not caller.administrator and caller.uid != port.record.owner:
        raise Denied(
            f"port {port.name} belongs to uid {port.record.owner}: only that user and root may change or detach it"
        )
