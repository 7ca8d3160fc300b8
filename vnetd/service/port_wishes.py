"""What the host must hold for a port, from its record and its network as it runs."""

from vnetd.host.protocols import Packets
from vnetd.model.errors import Unsupported
from vnetd.model.network import Mode, Network
from vnetd.model.networkport import DirectPlug
from vnetd.model.port import UNLIMITED, PortKind, PortRecord
from vnetd.plan.drift import union
from vnetd.plan.links import PortVlan
from vnetd.plan.rules import EMPTY, Family, Fragment, port_owner
from vnetd.plan.shaping import shaping_of
from vnetd.plan.vlans import memberships
from vnetd.reconcile.desired import alias_of
from vnetd.reconcile.port import DesiredPort
from vnetd.ruleset.introduction import introducing
from vnetd.ruleset.isolation import isolation_fragment
from vnetd.ruleset.snooping import snooping
from vnetd.service.filter_uses import Bound
from vnetd.service.filters import FilterService
from vnetd.service.naming import host_side_mac
from vnetd.service.network_object import NetworkObject
from vnetd.service.port_plugs import plug_of
from vnetd.service.port_records import vlan_for
from vnetd.service.site import site_of

UNTAGGED = frozenset({PortKind.EXISTING, PortKind.HOSTDEV, PortKind.PASST})
"""Kinds that have no device of vnetd's making."""


class PortWishes:
    """Turns records into desired ports, and tells filters who uses them."""

    def __init__(self, filters: FilterService, packets: Packets) -> None:
        self._filters = filters
        self._packets = packets
        self._latest: tuple[PortRecord, Network, Bound] | None = None

    def desired(self, record: PortRecord, network: NetworkObject) -> DesiredPort:
        """The port in kernel terms, its filter compiled. Raises ``Invalid`` or ``Unsupported`` for the filter."""
        assert network.live is not None
        if record.plug and record.limits != UNLIMITED:
            raise Unsupported(f"bandwidth of port {record.device} cannot be limited: it passes no bridge")
        isolated = network.live.isolated_ports if record.isolated is None else record.isolated
        if record.kind.inside:
            _refuse_unrealised(record, network.live, bool(isolated))
        return DesiredPort(
            uuid=str(record.uuid),
            device=record.device,
            bridge=network.bridge,
            alias="" if record.kind in UNTAGGED else alias_of("port", str(record.uuid)),
            mac=None if record.kind is PortKind.EXISTING else host_side_mac(record.made_for or record.mac),
            mtu=record.mtu,
            up=record.link and not record.blocked,
            fleeting=record.kind is PortKind.TAP_FD,
            isolated=bool(isolated),
            fragment=self.fragment(record, network),
            vlans=_vlans(record, network.live),
            shaping=shaping_of(str(record.uuid), record.limits),
            plug=plug_of(record, network.live),
            tap=record.tap,
            place=self._place(record, network.live.mode, bool(isolated)),
        )

    def fragment(self, record: PortRecord, network: NetworkObject) -> Fragment:
        """The rules of its filter as it is now. Raises ``Invalid`` or ``Unsupported`` for the filter."""
        if record.filter and record.plug and not isinstance(record.plug, DirectPlug):
            raise Unsupported(
                f"port {record.device} of kind {record.kind} cannot have filter {record.filter}: its frames pass no "
                "device of this host that rules could be at; who is not root has no port without a filter"
            )
        if record.unseen and record.plug:
            raise Unsupported(
                f"port {record.device} of kind {record.kind}: no rule sees its first packet: give its mac"
            )
        if record.unseen:
            return introducing(record.device)
        return self._filters.compile(self._bound(record, record.filter, network)) if record.filter else EMPTY

    def note_use(self, record: PortRecord, network: NetworkObject) -> None:
        """The port has the filter of its record, or none yet."""
        if record.filter and not record.unseen:
            self._filters.use(self._bound(record, record.filter, network))
        else:
            self.forget_use(record)

    def forget_use(self, record: PortRecord) -> None:
        """The port uses no filter any more."""
        self._filters.unuse(port_owner(str(record.uuid)))

    def _bound(self, record: PortRecord, filter: str, network: NetworkObject) -> Bound:
        """One port is asked about several times in a row."""
        if self._latest is None or self._latest[0] is not record or self._latest[1] is not network.current:
            self._latest = record, network.current, _bound(record, filter, network.current)
        return self._latest[2]

    def _place(self, record: PortRecord, mode: Mode, isolated: bool) -> Fragment:
        """Rules of a bridge's port, whatever its filter. No packet is shown if nobody can look, nor in an open network.

        Those who chose ``open`` want no rule there that they did not ask for.
        """
        if record.plug:
            return EMPTY
        seen = EMPTY if self._packets.problem or mode is Mode.OPEN else snooping(record.device)
        return union((isolation_fragment(record.device), seen)) if isolated else seen


def _refuse_unrealised(record: PortRecord, network: Network, isolated: bool) -> None:
    """Raise ``Unsupported`` for what only a port of a bridge can have."""
    for wanted, what in (
        (record.filter, "be filtered"),
        (isolated, "be isolated"),
        (not record.link, "be unplugged"),
        (record.limits.inbound or record.limits.outbound, "have limits of bandwidth"),
        (vlan_for(network, record.vlan, record.portgroup), "be in a VLAN"),
    ):
        if wanted:
            raise Unsupported(f"port {record.device} cannot {what}: a {record.kind} is no port of a bridge")


def _vlans(record: PortRecord, network: Network) -> frozenset[PortVlan] | None:
    """Of a port of a bridge; others have them set on the device they lie on."""
    vlan = None if record.plug else vlan_for(network, record.vlan, record.portgroup)
    return memberships(vlan) if vlan else None


def _bound(record: PortRecord, filter: str, network: Network) -> Bound:
    site = site_of(network, record.mac)
    family: Family = "netdev" if record.plug else "bridge"
    return Bound(port_owner(str(record.uuid)), record.device, filter, record.mac, record.parameters, site, family)
