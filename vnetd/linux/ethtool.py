"""The one ethtool setting vnetd needs."""

import array
import fcntl
import socket
import struct

SIOCETHTOOL = 0x8946
ETHTOOL_STXCSUM = 0x17

_IFREQ = struct.Struct("=16sQ16x")
_VALUE = struct.Struct("=II")


def disable_tx_checksum(name: str) -> None:
    """Switch a link's transmit checksum offload off (ethtool's ``tx off``). Raises ``OSError``."""
    value = array.array("B", _VALUE.pack(ETHTOOL_STXCSUM, 0))
    address, _length = value.buffer_info()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, SIOCETHTOOL, _IFREQ.pack(name.encode(), address))
