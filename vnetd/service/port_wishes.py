"""What the host must hold for a port, from its record and its network as it runs."""

from vnetd.model.port import PortKind, PortRecord
from vnetd.plan.rules import EMPTY, Fragment
from vnetd.reconcile.desired import alias_of
from vnetd.reconcile.port import DesiredPort, port_owner
from vnetd.service.filters import Bound, FilterService
from vnetd.service.naming import host_side_mac
from vnetd.service.network_object import NetworkObject


class PortWishes:
    """Turns records into desired ports, and tells filters who uses them."""

    def __init__(self, filters: FilterService) -> None:
        self._filters = filters

    def desired(self, record: PortRecord, network: NetworkObject) -> DesiredPort:
        """The port in kernel terms, its filter compiled. Raises ``Invalid`` or ``Unsupported`` for the filter."""
        assert network.live is not None
        isolated = network.live.isolated_ports if record.isolated is None else record.isolated
        return DesiredPort(
            uuid=str(record.uuid),
            device=record.device,
            bridge=network.bridge,
            alias="" if record.kind is PortKind.EXISTING else alias_of("port", str(record.uuid)),
            mac=None if record.kind is PortKind.EXISTING else host_side_mac(record.mac),
            mtu=record.mtu,
            up=record.link and not record.blocked,
            fleeting=record.kind is PortKind.TAP_FD,
            isolated=bool(isolated),
            fragment=self._fragment(record),
        )

    def note_use(self, record: PortRecord) -> None:
        """The port has the filter of its record, or none."""
        owner = port_owner(str(record.uuid))
        if record.filter:
            self._filters.users[owner] = _bound(record, record.filter)
        else:
            self._filters.users.pop(owner, None)

    def forget_use(self, record: PortRecord) -> None:
        """The port uses no filter any more."""
        self._filters.users.pop(port_owner(str(record.uuid)), None)

    def _fragment(self, record: PortRecord) -> Fragment:
        return self._filters.compile(_bound(record, record.filter)) if record.filter else EMPTY


def _bound(record: PortRecord, filter: str) -> Bound:
    return Bound(record.device, filter, record.mac, record.parameters)
