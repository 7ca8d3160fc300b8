"""Copies of packets that rules chose (statement ``log group``), read from the kernel in the event loop.

Only what a rule logs costs anything: no other packet of the host is looked at, copied or queued. Source: nfnetlink.h
and nfnetlink_log.h of the kernel's user-space API.
"""

import errno
import logging
import os
import platform
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress

from vnetd.linux.links import name_of
from vnetd.linux.netlink import HEADER as MESSAGE
from vnetd.linux.netlink import (
    NETLINK_NETFILTER,
    NLM_F_ACK,
    NLM_F_REQUEST,
    NLMSG_ERROR,
    S32,
    attributes,
    encode,
    messages,
)
from vnetd.linux.netlink_listener import Burst, Listener, listening
from vnetd.model.capability import Capability
from vnetd.packets.sightings import Packet
from vnetd.ruleset.learning import GROUP
from vnetd.ruleset.learning import SNAP as LONGEST
from vnetd.ruleset.snooping import PREFIX as SNOOPED

SUBSYSTEM_LOG = 4
CONFIGURE, PACKET = SUBSYSTEM_LOG << 8 | 1, SUBSYSTEM_LOG << 8
COMMAND, MODE, THRESHOLD = 1, 2, 5
BIND, COPY_PACKET = 1, 2
HEADER, INDEV, OUTDEV, PHYSINDEV, PHYSOUTDEV, PAYLOAD, PREFIX, LINK_HEADER = 1, 4, 5, 6, 7, 9, 10, 16
GENERIC = 4
POSTROUTING = 4
NETDEV, INGRESS = 5, 0
ETHERNET = 14
"""Octets of the header that is there already when a packet leaves a device."""
RECEIVE_BUFFER = 2 << 20

log = logging.getLogger(__name__)


class PacketLog:
    """Calls its listeners for every packet logged to ``GROUP`` in the namespace it is opened in.

    ``problem`` says why that cannot be, if it cannot: the daemon does without.
    """

    def __init__(self) -> None:
        self.problem = "it was not tried"
        self._listeners: list[Callable[[Packet], None]] = []
        self._reader: Listener | None = None

    def subscribe(self, listener: Callable[[Packet], None]) -> None:
        """See ``host.protocols.Packets``."""
        self._listeners.append(listener)

    def open(self) -> None:
        """Listen on the running event loop; what stands against it is in ``problem``."""
        try:
            self._reader = Listener(_bound(), self._take)
        except OSError as error:
            self.problem = f"packet log group {GROUP} is refused: {os.strerror(error.errno or errno.EIO)}"
            log.warning("%s", self.problem)
        else:
            self.problem = ""

    def close(self) -> None:
        """Stop listening. Closing twice is harmless."""
        if self._reader is not None:
            self._reader.close()

    def _take(self, burst: Burst) -> None:
        for data in burst:
            if data is None:
                log.warning("packets that tell guests' addresses were lost: there are too many")
                continue
            for packet in parse(data):
                for listener in self._listeners:
                    listener(packet)


def probe_packet_log() -> Iterator[Capability]:
    """Whether the kernel shows logged packets, found out in the network namespace of the calling thread."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER) as sock:
        sock.settimeout(5)
        try:
            sock.bind((0, 0))
            _configure(sock, COMMAND, struct.pack("=B", BIND))
        except OSError as error:
            why = f"this kernel ({platform.release()}) says: {os.strerror(error.errno or errno.EIO)}"
            yield Capability("packet-log", False, why)
        else:
            yield Capability("packet-log", True)


def parse(data: bytes) -> list[Packet]:
    """Packets in one datagram of the kernel's."""
    found = []
    for kind, _flags, _sequence, _port, start, end in messages(data):
        if kind == PACKET:
            with suppress(struct.error, KeyError):
                read = _at_device if data[start] == NETDEV else _packet
                found.append(read(attributes(data, start + GENERIC, end)))
    return found


def _packet(fields: dict[int, bytes]) -> Packet:
    ethertype, hook = struct.unpack_from("!HB", fields[HEADER])
    towards_guest = hook == POSTROUTING
    link = fields.get(LINK_HEADER, b"")
    incoming = _device(fields, PHYSINDEV, INDEV)
    return Packet(
        device=_device(fields, PHYSOUTDEV, OUTDEV) if towards_guest else incoming,
        towards_guest=towards_guest,
        ingress=incoming,
        source=link[6:12].hex(":") if len(link) >= 14 else "",
        ethertype=ethertype,
        payload=fields.get(PAYLOAD, b""),
        snooped=fields.get(PREFIX, b"").rstrip(b"\0") == SNOOPED.encode(),
    )


def _at_device(fields: dict[int, bytes]) -> Packet:
    """Of a device in no bridge: what arrives there is for its guest, and where it came from is not known."""
    ethertype, hook = struct.unpack_from("!HB", fields[HEADER])
    towards_guest = hook == INGRESS
    payload = fields.get(PAYLOAD, b"")
    link, content = (b"", payload) if towards_guest else (payload[:ETHERNET], payload[ETHERNET:])
    return Packet(
        device=_device(fields, INDEV if towards_guest else OUTDEV),
        towards_guest=towards_guest,
        ingress="",
        source=link[6:12].hex(":"),
        ethertype=ethertype,
        payload=content,
    )


def _device(fields: dict[int, bytes], *kinds: int) -> str:
    """The bridge's port, if the kernel names bridge and port."""
    for kind in kinds:
        if kind in fields:
            return name_of(struct.unpack("!I", fields[kind])[0])
    return ""


def _bound() -> socket.socket:
    """A socket that what rules log is sent to."""
    sock = listening(NETLINK_NETFILTER, RECEIVE_BUFFER)
    try:
        sock.settimeout(5)
        _configure(sock, COMMAND, struct.pack("=B", BIND))
        _configure(sock, MODE, struct.pack("!IBx", LONGEST, COPY_PACKET))
        _configure(sock, THRESHOLD, struct.pack("!I", 1))  # each at once: nobody shall wait for an address
    except OSError:
        sock.close()
        raise
    return sock


def _configure(sock: socket.socket, kind: int, value: bytes) -> None:
    body = struct.pack("!BBH", socket.AF_UNSPEC, 0, GROUP) + encode(kind, value)
    sock.send(MESSAGE.pack(MESSAGE.size + len(body), CONFIGURE, NLM_F_REQUEST | NLM_F_ACK, 0, 0) + body)
    answer = sock.recv(1 << 16)
    for message, _flags, _sequence, _port, start, _end in messages(answer):
        if message == NLMSG_ERROR and (code := S32.unpack_from(answer, start)[0]):
            raise OSError(-code, "refused")
