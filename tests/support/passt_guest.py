"""A guest behind passt: frames with their length before them, on a unix socket, as QEMU's stream netdev sends them."""

import socket
import struct
import time
from collections.abc import Callable, Iterator
from itertools import count
from typing import TypeVar

MAC = bytes.fromhex("525400007701")
BROADCAST = b"\xff" * 6
ARP, IPV4, UDP, TCP = 0x806, 0x800, 17, 6
SYN, ACK = 0x02, 0x10
T = TypeVar("T")


class PasstGuest:
    """Speaks just enough ARP, DHCP and TCP to see that somebody answers."""

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(0.2)
        self._socket.connect(path)
        self._waiting = b""

    def close(self) -> None:
        """Unplug."""
        self._socket.close()

    def offered(self, wait: float = 10) -> str:
        """The address DHCP offers."""
        offer = self._exchange(lambda: self._send(_discover()), _offer, wait)
        return socket.inet_ntoa(offer)

    def connects(self, source: str, gateway: str, target: str, port: int, wait: float = 10) -> bool:
        """Whether a TCP connection to a host beyond is accepted."""
        ports = count(40000)

        def call() -> None:
            """Anew each time, for passt may have known nobody yet when it heard the last."""
            self.announce(source, gateway)
            self._send(_frame(BROADCAST, IPV4, _tcp(source, target, next(ports), port, SYN)))

        return bool(self._exchange(call, _accepted, wait))

    def announce(self, source: str, gateway: str) -> None:
        """Ask for the gateway, from which passt learns who we are."""
        self._send(who_has(gateway, source))

    def called(self, wait: float = 10) -> int:
        """The port of this guest somebody asks a TCP connection of."""
        return self._exchange(lambda: None, _asked, wait)

    def _exchange(self, send: Callable[[], None], answer: Callable[[bytes], T | None], wait: float) -> T:
        end = time.monotonic() + wait
        while time.monotonic() < end:
            send()
            for frame in self._frames():
                if found := answer(frame):
                    return found
        raise AssertionError("passt did not answer")

    def _send(self, frame: bytes) -> None:
        self._socket.sendall(struct.pack("!I", len(frame)) + frame)

    def _frames(self) -> Iterator[bytes]:
        try:
            self._waiting += self._socket.recv(65536)
        except TimeoutError:
            return
        while len(self._waiting) >= 4:
            (length,) = struct.unpack_from("!I", self._waiting)
            if len(self._waiting) < 4 + length:
                return
            frame, self._waiting = self._waiting[4 : 4 + length], self._waiting[4 + length :]
            yield frame


def _frame(target: bytes, kind: int, payload: bytes) -> bytes:
    return target + MAC + struct.pack("!H", kind) + payload


def who_has(target: str, source: str) -> bytes:
    """An ARP request of ``MAC`` at the address ``source`` (RFC 826)."""
    addresses = socket.inet_aton(source), socket.inet_aton(target)
    body = struct.pack("!HHBBH6s4s6s4s", 1, IPV4, 6, 4, 1, MAC, addresses[0], bytes(6), addresses[1])
    return _frame(BROADCAST, ARP, body)


def _discover() -> bytes:
    options = bytes([99, 130, 83, 99, 53, 1, 1, 255])
    bootp = struct.pack("!BBBBIHH16s16s192s", 1, 1, 6, 0, 7, 0, 0x8000, bytes(16), MAC, bytes(192)) + options
    udp = struct.pack("!HHHH", 68, 67, 8 + len(bootp), 0) + bootp
    return _frame(BROADCAST, IPV4, _ip("0.0.0.0", "255.255.255.255", UDP, udp))


def _ip(source: str, target: str, protocol: int, payload: bytes) -> bytes:
    addresses = socket.inet_aton(source) + socket.inet_aton(target)
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 1, 0, 64, protocol, 0) + addresses
    return head[:10] + struct.pack("!H", _sum(head)) + head[12:] + payload


def _tcp(source: str, target: str, near: int, far: int, flags: int) -> bytes:
    head = struct.pack("!HHIIBBHHH", near, far, 1000, 0, 0x50, flags, 65535, 0, 0)
    pseudo = socket.inet_aton(source) + socket.inet_aton(target) + struct.pack("!BBH", 0, TCP, len(head))
    return _ip(source, target, TCP, head[:16] + struct.pack("!H", _sum(pseudo + head)) + head[18:])


def _sum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


def _payload(frame: bytes, protocol: int) -> bytes:
    if struct.unpack_from("!H", frame, 12) != (IPV4,) or frame[23] != protocol:
        return b""
    return frame[14 + (frame[14] & 15) * 4 :]


def _offer(frame: bytes) -> bytes | None:
    udp = _payload(frame, UDP)
    return udp[8 + 16 : 8 + 20] if udp[:4] == struct.pack("!HH", 67, 68) else None


def _accepted(frame: bytes) -> int | None:
    tcp = _payload(frame, TCP)
    return 1 if tcp and tcp[13] & (SYN | ACK) == SYN | ACK else None


def _asked(frame: bytes) -> int | None:
    tcp = _payload(frame, TCP)
    return int(struct.unpack_from("!H", tcp, 2)[0]) if tcp and tcp[13] & (SYN | ACK) == SYN else None
