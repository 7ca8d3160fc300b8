"""How a port changes while its guest runs: one way for every property.

The new record is saved, what is desired replaced, the host brought there; if any of it fails everything is as it was.
"""

import logging
from collections.abc import Mapping

from vnetd.model.errors import Denied, VnetError
from vnetd.model.port import PortRecord
from vnetd.service import reservations
from vnetd.service.filters import FilterService
from vnetd.service.notices import Notices
from vnetd.service.port_lifecycle import PortLifecycle
from vnetd.service.port_object import PortObject, PortTable
from vnetd.service.port_records import with_class
from vnetd.service.port_spec import validated
from vnetd.service.port_wishes import PortWishes
from vnetd.service.views import Caller, Changed

log = logging.getLogger(__name__)


class PortChanges:
    """Changes properties of whole ports."""

    def __init__(
        self, notices: Notices, ports: PortTable, filters: FilterService, wishes: PortWishes, lifecycle: PortLifecycle
    ) -> None:
        self._notices = notices
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
        changed = await self._change(port, fields)
        if changed:
            log.info("%s of port %s changed by uid %d (pid %d)", ", ".join(fields), port.name, caller.uid, caller.pid)
        return changed

    async def introduce(self, port: PortObject, mac: str) -> None:
        """The guest's first packet came from ``mac``. Raises ``Exists`` if that is another guest's."""
        self._ports.refuse_duplicate(port.network, mac)
        await self._change(port, {"mac": mac, "made_for": port.record.mac, "unseen": False})

    async def _change(self, port: PortObject, fields: Mapping[str, object]) -> bool:
        async with port.target.lock, self._filters.changing:
            self._ports.refuse_gone(port)
            record = with_class(validated(PortRecord, {**dict(port.record), **fields}), port.network)
            if record == port.record:
                return False
            await self._realise(port, record)
        self._notices.tell(Changed("port", port.view()))
        return True

    async def _realise(self, port: PortObject, record: PortRecord) -> None:
        desired, before = self._wishes.desired(record, port.network), port.record
        await self._lifecycle.save(record)
        port.record, port.target.desired = record, desired
        try:
            await reservations.hold(port.network, record)
            await port.target.converge()
        except BaseException as failure:
            await self._go_back(port, before, failure)
            raise
        self._wishes.note_use(record, port.network)

    async def _go_back(self, port: PortObject, before: PortRecord, failure: BaseException) -> None:
        if port.record.tampered != before.tampered:  # what its holder did meanwhile was done
            done = {"tampered": port.record.tampered, "blocked": port.record.blocked}
            before = before.model_copy(update=done)
        port.record, port.target.desired = before, self._wishes.desired(before, port.network)
        try:
            await self._lifecycle.save(before)
            await reservations.hold(port.network, before)
            await port.target.converge()
        except VnetError as error:
            failure.add_note(f"and going back failed: {error}")


def refuse_stranger(caller: Caller, port: PortObject) -> None:
    """Raise ``Denied`` to whoever is neither the owner of the port nor an administrator."""
    if not caller.administrator and caller.uid != port.record.owner:
        raise Denied(
            f"port {port.name} belongs to uid {port.record.owner}: only that user and root may change or detach it"
        )
