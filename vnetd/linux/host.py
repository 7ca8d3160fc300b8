"""The real host: everything below the seam, opened and closed together, in the namespace it is opened in."""

from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

from vnetd.host.events import HostEvent
from vnetd.linux.capabilities import LinuxCapabilities
from vnetd.linux.dnsmasq import DnsmasqHost
from vnetd.linux.functions import LinuxFunctions
from vnetd.linux.kernel import LinuxKernel
from vnetd.linux.macvtap import MacvtapHost
from vnetd.linux.netns import Namespaces
from vnetd.linux.nft import LinuxNft
from vnetd.linux.nft_events import RulesMonitor
from vnetd.linux.packet_log import PacketLog
from vnetd.linux.passt import PasstHost
from vnetd.linux.resolved import Resolved
from vnetd.linux.rtnl_events import RtnlEvents
from vnetd.linux.store import FileStore
from vnetd.linux.taps import LinuxTaps


class Announcer:
    """``host.Events``: passes what any source reports to those who subscribed."""

    def __init__(self) -> None:
        self._listeners: list[Callable[[HostEvent], None]] = []

    def subscribe(self, listener: Callable[[HostEvent], None]) -> None:
        """Call ``listener`` on the event loop's thread for every event from now on."""
        self._listeners.append(listener)

    def announce(self, event: HostEvent) -> None:
        """Tell everybody."""
        for listener in self._listeners:
            listener(event)


class LinuxHost:
    """``host.Host`` on this machine: files are below ``root``, the resolver is on ``bus``. Make it with ``open``."""

    def __init__(
        self, root: Path, bus: str, kernel: LinuxKernel, nft: LinuxNft, events: Announcer, packets: PacketLog
    ) -> None:
        self.state_directory = root.absolute() / "var/lib/vnetd"
        self.run_directory = root.absolute() / "run/vnetd"
        self.kernel = kernel
        self.nft = nft
        self.events = events
        self.packets = packets
        self.taps = LinuxTaps()
        self.macvtaps = MacvtapHost(events.announce)
        self.functions = LinuxFunctions()
        self.passt = PasstHost(root, events.announce)
        self.namespaces = Namespaces(events.announce)
        self.store = FileStore(root)
        self.dnsmasq = DnsmasqHost(root, events.announce)
        self.resolver = Resolved(bus)
        self.capabilities = LinuxCapabilities(nft.exclusively)
        self._stack = AsyncExitStack()

    @classmethod
    async def open(cls, root: Path, bus: str) -> "LinuxHost":
        """Open every socket and thread. Raises ``HostError`` if the kernel lacks what nothing goes without."""
        async with AsyncExitStack() as stack:
            kernel = await LinuxKernel.start()
            stack.push_async_callback(kernel.close)
            nft = LinuxNft()
            await nft.open()
            stack.push_async_callback(nft.close)
            events = Announcer()
            stack.callback(RtnlEvents(events.announce, lambda: kernel.ports).close)
            rules = RulesMonitor(events.announce, nft.ports)
            rules.open()
            stack.callback(rules.close)
            packets = PacketLog()
            packets.open()
            stack.callback(packets.close)
            host = cls(root, bus, kernel, nft, events, packets)
            beside = (host.macvtaps.close, host.functions.close, host.passt.close)
            for closer in (host.store.close, host.namespaces.close, host.taps.stop, *beside, host.dnsmasq.close):
                stack.push_async_callback(closer)
            host._stack = stack.pop_all()
            return host

    async def close(self) -> None:
        """Finish what is under way and close everything; what runs on the host goes on."""
        await self._stack.aclose()
