"""How networks are joined to the rest of the world."""

from enum import StrEnum


class Mode(StrEnum):
    """How a network is joined to the rest of the world."""

    ISOLATED = "isolated"
    NAT = "nat"
    ROUTE = "route"
    OPEN = "open"
    BRIDGE = "bridge"
    MACVTAP = "macvtap"
    HOSTDEV = "hostdev"
    USER = "user"

    @property
    def has_bridge(self) -> bool:
        """Whether vnetd makes a bridge for a network of this mode (libvirt: "virtual" modes)."""
        return self in _WITH_BRIDGE


_WITH_BRIDGE = frozenset({Mode.ISOLATED, Mode.NAT, Mode.ROUTE, Mode.OPEN})


class MacvtapMode(StrEnum):
    """Forwarding between the macvtap devices of one lower device."""

    BRIDGE = "bridge"
    VEPA = "vepa"
    PRIVATE = "private"
    PASSTHROUGH = "passthrough"
