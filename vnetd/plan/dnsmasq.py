"""A network's dnsmasq as it should be and as it is."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Instance:
    """What dnsmasq of one network is started with.

    ``files`` maps a base name (``dnsmasq.conf``, ``hosts``, ``addnhosts``, ``servers``) to its text; in the texts
    ``@DIR@`` never occurs: paths are rendered whole. A change of ``dnsmasq.conf`` needs a restart, of any other
    file a reload. ``follows_addresses``: it acts on the news that any address of the host comes or goes.
    """

    network: str
    bridge: str
    files: Mapping[str, str]
    follows_addresses: bool = True


@dataclass(frozen=True, slots=True)
class DnsmasqState:
    """What is there: the live process (``pid`` 0 for none) and the texts of its files, by base name.

    ``started_with`` is the text of ``dnsmasq.conf`` the running process was started with.
    """

    pid: int
    started_with: str | None
    files: Mapping[str, str]
