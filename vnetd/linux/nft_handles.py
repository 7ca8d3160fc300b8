"""What the kernel calls the rules of a chain, from the kernel itself.

A handle names one rule for as long as its table lives, and what a rule says never changes. libnftables lists a chain
only after it has read every element of every set of the table: 13 ms with 1,000 networks; this takes 0.05 ms.
"""

import struct

from vnetd.linux.netlink import NETLINK_NETFILTER, ReadSocket, attribute
from vnetd.linux.nft_messages import FAMILY, GENERIC, SUBSYSTEM, text
from vnetd.plan.rules import Family

GET_RULE = SUBSYSTEM << 8 | 7
TABLE_NAME, CHAIN_NAME, HANDLE = 1, 2, 3
U64 = struct.Struct("!Q")


class HandleSocket:
    """Reads handles in the caller's network namespace; for one thread."""

    def __init__(self) -> None:
        self._socket = ReadSocket(NETLINK_NETFILTER)

    def read(self, family: Family, table: str, chain: str) -> tuple[int, ...]:
        """Handles of a chain's rules in their order, none if there is no such chain. Raises ``OSError``."""
        generic = GENERIC.pack(FAMILY[family], 0, 0)
        names = text(TABLE_NAME, table) + text(CHAIN_NAME, chain)
        return tuple(self._socket.dump(GET_RULE, generic + names, _handle))

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


def _handle(data: bytes, start: int, end: int) -> int:
    handle: int = U64.unpack(attribute(data, start + GENERIC.size, end, HANDLE) or bytes(U64.size))[0]
    return handle
