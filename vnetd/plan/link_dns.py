"""What the host's resolver knows of one link: name servers, domains, and how names are asked for there."""

from dataclasses import dataclass

from vnetd.model.base import IPAddress


@dataclass(frozen=True, slots=True)
class NameServer:
    """A server with its port, 0 for the usual one, and the name its certificate must have, "" for any."""

    address: IPAddress
    port: int = 0
    name: str = ""


@dataclass(frozen=True, slots=True)
class LinkDomain:
    """A domain whose names are asked for on the link; unless ``route_only`` single words are completed with it too."""

    name: str
    route_only: bool = False


@dataclass(frozen=True, slots=True)
class LinkDns:
    """Settings of one link in systemd-resolved's terms (org.freedesktop.resolve1(5), "Link Object").

    ``default_route``: whether names of no link's domains are asked for here, ``None`` as the resolver decides. The
    modes are its words (``yes``, ``no``, ``resolve``, ``opportunistic`` …), "" for what it does not tell.
    """

    servers: tuple[NameServer, ...] = ()
    domains: tuple[LinkDomain, ...] = ()
    default_route: bool | None = None
    llmnr: str = ""
    multicast_dns: str = ""
    dns_over_tls: str = ""
    dnssec: str = ""
    negative_trust_anchors: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.servers or self.domains)

    def __str__(self) -> str:
        servers = ", ".join(str(server.address) for server in self.servers) or "none"
        domains = ", ".join(("~" if domain.route_only else "") + domain.name for domain in self.domains)
        return f"name servers {servers}" + (f", domains {domains}" if domains else "")
