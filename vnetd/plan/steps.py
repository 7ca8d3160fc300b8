"""What plans are made of, whatever they are for."""

from dataclasses import dataclass
from enum import IntEnum

from vnetd.plan.kernel import Operation


class Phase(IntEnum):
    """Order in which a network or a switch comes into being."""

    REMOVE = 0
    RULES = 1
    LINK = 2
    ADDRESSES = 3
    UP = 4
    ROUTES = 5
    DNSMASQ = 6
    PORTS = 7
    MOVE = 8


@dataclass(frozen=True, slots=True)
class KernelStep:
    """One kernel operation; ``what`` names the object in words for people."""

    phase: Phase
    what: str
    operation: Operation


@dataclass(frozen=True, slots=True)
class Sysctl:
    """A sysctl and its value; ``optional`` ones need not exist."""

    path: tuple[str, ...]
    value: str
    optional: bool = False


class ForeignLink(Exception):
    """A link with the bridge's name exists that vnetd did not make."""
