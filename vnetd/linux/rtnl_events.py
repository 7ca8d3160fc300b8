"""What rtnetlink reports, as events that say where to look.

Parsed by hand for no more than the key: the library takes 0.2 ms a message, on the loop's own thread.
"""

import logging
import struct
from collections.abc import Callable, Collection

from vnetd.host.events import (
    AddressEvent,
    HostEvent,
    LinkEvent,
    NamespaceEvent,
    Overflow,
    RouteEvent,
    SysctlEvent,
    TrafficEvent,
)
from vnetd.linux import netlink, netns_links, policy_rules, tc
from vnetd.linux.links import IFLA_IFNAME, name_of, number_of
from vnetd.linux.netlink import attribute, attributes
from vnetd.linux.netlink_listener import Burst, Listener, listening
from vnetd.linux.processes import port_owner
from vnetd.linux.route_messages import RTA_OIF, RTN_UNICAST

GROUPS = (1, 4, 5, 7, 8, 9, 11, 19, 24, 25, 28)
"""Multicast groups: links, traffic control, addresses, routes and rules of IPv4 (5, 7, 8) and IPv6 (9, 11, 19), netconf
of both, numbers of namespaces (28)."""
NETCONFA_IFINDEX, NETCONFA_FORWARDING, NETCONFA_RP_FILTER = 1, 2, 3
NETCONF_HEADER = 4
RECEIVE_BUFFER = 8 << 20
"""Bytes the kernel may queue for us: some 10,000 events."""

log = logging.getLogger(__name__)


class RtnlEvents:
    """Calls ``emit`` for changes of links, addresses, unicast routes, rules about devices, ``forwarding`` sysctls,
    traffic control.

    Events whose port id is in ``own_ports()`` are dropped: with ``LinuxKernel.ports`` these are the echoes of
    vnetd's own requests for addresses, routes and rules. The kernel tells no port id for links, nor for what it changes
    by itself in the wake of a request, so these are reported whoever asked, and without a cause.
    """

    def __init__(
        self,
        emit: Callable[[HostEvent], None],
        own_ports: Callable[[], Collection[int]] = frozenset,
        receive_buffer: int = RECEIVE_BUFFER,
    ) -> None:
        """Listen, in the running loop, to the caller's network namespace. Raises ``OSError``."""
        self._emit = emit
        self._own_ports = own_ports
        self._listener = Listener(listening(netlink.NETLINK_ROUTE, receive_buffer, GROUPS), self._take)

    def close(self) -> None:
        """Stop listening. Closing twice is harmless."""
        self._listener.close()

    def _take(self, burst: Burst) -> None:
        """Report each event of a burst once."""
        events: dict[HostEvent, None] = {}
        for data in burst:
            events |= dict.fromkeys([Overflow("rtnetlink")] if data is None else parse(data, self._own_ports()))
        for event in events:
            self._emit(event)


def parse(data: bytes, own_ports: Collection[int] = ()) -> list[HostEvent]:
    """Events in one datagram, without those caused through one of ``own_ports``."""
    events: list[HostEvent] = []
    for kind, _flags, _sequence, port, start, end in netlink.messages(data):
        if port in own_ports:
            continue
        if kind in policy_rules.CHANGES:
            events += _rule(data, start, end, port)
            continue
        event = _event(kind, data, start, end, port)
        if event is not None:
            events.append(event)
    return events


def _event(kind: int, data: bytes, start: int, end: int, port: int) -> HostEvent | None:
    try:
        match kind:
            case netlink.RTM_NEWLINK | netlink.RTM_DELLINK:
                return _link(data, start, end, port)
            case netlink.RTM_NEWADDR | netlink.RTM_DELADDR:
                index = netlink.ADDRESS.unpack_from(data, start)[4]
                return AddressEvent(index, port_owner(port), name_of(index))
            case netlink.RTM_NEWROUTE | netlink.RTM_DELROUTE:
                return _route(data, start, end, port)
            case number if number in tc.CHANGES:
                return TrafficEvent((index := tc.TC.unpack_from(data, start)[1]), port_owner(port), name_of(index))
            case netns_links.RTM_DELNSID:
                return NamespaceEvent(netns_links.parse_number(data, start, end))
            case netlink.RTM_NEWNETCONF:
                return _netconf(data, start, end, port)
    except struct.error:
        log.warning("rtnetlink message of type %d is too short", kind)
    return None


def _link(data: bytes, start: int, end: int, port: int) -> LinkEvent:
    index = netlink.LINK.unpack_from(data, start)[2]
    name = attribute(data, start + netlink.LINK.size, end, IFLA_IFNAME) or b""
    return LinkEvent(index, name.rstrip(b"\0").decode(errors="replace"), port_owner(port))


def _route(data: bytes, start: int, end: int, port: int) -> RouteEvent | None:
    # Local, broadcast and multicast routes come and go with addresses, which have events of their own.
    if netlink.ROUTE.unpack_from(data, start)[7] != RTN_UNICAST:
        return None
    device = attribute(data, start + netlink.ROUTE.size, end, RTA_OIF)
    index = netlink.U32.unpack(device)[0] if device else 0
    return RouteEvent(index, port_owner(port), name_of(index))


def _rule(data: bytes, start: int, end: int, port: int) -> list[HostEvent]:
    names = policy_rules.devices_of(data, start, end)
    return [RouteEvent(number_of(name), port_owner(port), name) for name in names]


def _netconf(data: bytes, start: int, end: int, port: int) -> SysctlEvent | None:
    found = attributes(data, start + NETCONF_HEADER, end)
    if NETCONFA_IFINDEX not in found or not {NETCONFA_FORWARDING, NETCONFA_RP_FILTER} & found.keys():
        return None
    index = netlink.S32.unpack(found[NETCONFA_IFINDEX])[0]
    return SysctlEvent(data[start], index, port_owner(port), name_of(index))
