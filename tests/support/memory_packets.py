"""Packets that rules of a host in memory show: those a test makes up."""

from collections.abc import Callable

from vnetd.packets.sightings import Packet


class MemoryPackets:
    """``host.Packets``: what a test shows."""

    def __init__(self) -> None:
        self.problem = ""
        self._listeners: list[Callable[[Packet], None]] = []

    def subscribe(self, listener: Callable[[Packet], None]) -> None:
        """Show packets to ``listener`` too."""
        self._listeners.append(listener)

    def deafen(self) -> None:
        """Nobody listens any more."""
        self._listeners.clear()

    def show(self, packet: Packet) -> None:
        """The rules showed this packet."""
        for listener in self._listeners:
            listener(packet)
