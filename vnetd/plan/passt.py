"""passt processes as values: what one is to be started with. One serves one port of a network of mode user."""

from dataclasses import dataclass
from typing import Literal

from vnetd.model.base import IPAddress


@dataclass(frozen=True, slots=True)
class PasstForward:
    """A port of the host led to the guest; ``address`` is the host's, all of them without."""

    protocol: Literal["tcp", "udp"]
    listen: int
    port: int
    address: IPAddress | None = None


@dataclass(frozen=True, slots=True)
class PasstInstance:
    """One process. ``port`` is the port's UUID; ``uid`` and ``gid`` are who it runs as, never root.

    ``interface`` is the host's device to go out by, "" for that of the default route; ``mtu`` in bytes.
    """

    port: str
    uid: int
    gid: int
    forwards: tuple[PasstForward, ...] = ()
    mtu: int | None = None
    interface: str = ""


def passt_arguments(instance: PasstInstance, socket: str) -> tuple[str, ...]:
    """The words after the program's name (passt(1)); no port is forwarded but those asked for.

    The gateway's address leads to the gateway: passt would lead it to the host's loopback, where much trusts callers.
    """
    words = ["-f", "-q", "--no-map-gw", "-s", socket, "-P", pid_file(socket)]
    if instance.mtu:
        words += ["-m", str(instance.mtu)]
    if instance.interface:
        words += ["-i", instance.interface]
    for protocol in ("tcp", "udp"):
        chosen = [one for one in instance.forwards if one.protocol == protocol]
        for one in chosen:
            where = f"{one.address}/" if one.address else ""
            words += [f"-{protocol[0]}", f"{where}{one.listen}:{one.port}"]
        if not chosen:
            words += [f"-{protocol[0]}", "none"]
    return tuple(words)


def pid_file(socket: str) -> str:
    """Where a passt with this socket writes its process id."""
    return f"{socket.removesuffix('socket')}pid"
