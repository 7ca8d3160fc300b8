"""Narrow protocol of the host's resolver, which knows name servers by link."""

from typing import Protocol

from vnetd.plan.link_dns import LinkDns


class Resolver(Protocol):
    """systemd-resolved; where it does not run nothing is done. Raises ``HostError`` if it refuses or stays silent."""

    async def settings(self, link: str) -> LinkDns | None:
        """What is set for a link; ``None`` if there is no such link, or no resolver."""
        ...

    async def give(self, link: str, dns: LinkDns) -> None:
        """Make these the settings of a link. Raises ``HostError`` (ENODEV) if there is no such link."""
        ...

    async def take(self, link: str) -> None:
        """Forget what was set for a link; what a manager of the link has told the resolver itself stays."""
        ...
