"""Addresses a guest was seen to have, as they are remembered over a restart of the daemon."""

from enum import StrEnum

from vnetd.model.base import IPAddress, Mac, Text, Value


class Source(StrEnum):
    """How an address became known."""

    DHCP = "dhcp"
    CLAIM = "claim"
    """The guest asked whether anybody has it, and nobody had."""
    USE = "use"


class LearnedAddress(Value):
    """An address of a guest; ``expires`` in seconds since the epoch, ``None`` for never."""

    address: IPAddress
    source: Source
    expires: int | None = None


class LearnedRecord(Value):
    """All addresses learned of one port or binding, in the order they were learned."""

    owner: Text
    mac: Mac
    addresses: tuple[LearnedAddress, ...] = ()
