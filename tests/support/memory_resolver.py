"""``host.Resolver`` in memory: knows name servers of links, which go with their link."""

import errno
from collections.abc import Callable

from vnetd.model.errors import HostError
from vnetd.plan.link_dns import LinkDns

DEFAULTS = LinkDns(llmnr="yes", multicast_dns="no", dns_over_tls="no", dnssec="no")


class MemoryResolver:
    """A resolver on a host whose links have the numbers that ``index_of`` tells, 0 for none; without, there is no host.

    ``runs``: whether there is a resolver at all. ``managed`` are links some manager tells it of itself.
    """

    def __init__(self, index_of: Callable[[str], int] = lambda _: 0) -> None:
        self.runs = True
        self.managed: set[str] = set()
        self.links: dict[int, LinkDns] = {}
        self._index_of = index_of

    def shown(self, link: str) -> LinkDns:
        """The settings of a link that is there."""
        return self.links.get(self._index_of(link), DEFAULTS)

    async def settings(self, link: str) -> LinkDns | None:
        """What is set for a link."""
        return self.shown(link) if self.runs and self._index_of(link) else None

    async def give(self, link: str, dns: LinkDns) -> None:
        """Set what differs."""
        if not self.runs:
            return
        index = self._index_of(link)
        if not index:
            raise HostError("set name servers of", link, errno.ENODEV)
        if link in self.managed and dns != self.shown(link):
            raise HostError("set name servers of", link, f"systemd-resolved: Link {link} is managed.")
        self.links[index] = dns

    async def take(self, link: str) -> None:
        """Forget what was set, unless it was not set here."""
        if self.runs and link not in self.managed:
            self.links.pop(self._index_of(link), None)
