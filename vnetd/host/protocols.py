"""The narrow protocols. ``linux`` implements them on the real host, the tests once more in memory.

All ``async`` verbs run their kernel work on worker threads: the event loop never waits for the kernel. Every
verb raises ``HostError`` (operation, object, the host's words) when the host refuses.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

from vnetd.host.commit import Commit
from vnetd.host.devices import Functions, Macvtaps, Passt
from vnetd.host.events import HostEvent
from vnetd.host.resolver import Resolver
from vnetd.model.base import IPAddress, IPInterface
from vnetd.model.capability import Capability
from vnetd.model.functions import VfState
from vnetd.packets.sightings import Packet
from vnetd.plan.dnsmasq import DnsmasqState, Instance
from vnetd.plan.features import BridgeFeatures
from vnetd.plan.kernel import CreateVeth, Operation, SetLink, WriteSysctl
from vnetd.plan.links import HostRoute, Link, LinkView, Neighbour, PortVlan
from vnetd.plan.possessions import Possessions
from vnetd.plan.rules import Count, Element, Family, Fragment, MissingRule, Stranger, TableContents
from vnetd.plan.traffic import Traffic


class Kernel(Protocol):
    """Links, addresses, routes and sysctls."""

    async def view(self, name: str) -> LinkView | None:
        """The link ``name`` with its addresses and unicast routes, ``None`` if there is none."""
        ...

    async def view_with(
        self, name: str, sysctls: Sequence[tuple[str, ...]]
    ) -> tuple[LinkView | None, Mapping[tuple[str, ...], str | None]]:
        """``view``, and if there is the link these ``sysctls``, read together."""
        ...

    async def link(self, name: str) -> Link | None:
        """The link ``name`` alone."""
        ...

    def is_taken(self, name: str) -> bool:
        """Whether a link is called so now; answered at once, without the lock readers of links may have to wait for."""
        ...

    def mtu(self, name: str) -> int | None:
        """The MTU of the link ``name``, ``None`` if there is none; answered at once, as ``is_taken`` is."""
        ...

    async def links_named(self, names: Sequence[str]) -> tuple[Link | None, ...]:
        """The links of these names, in this order, in one go."""
        ...

    async def link_at(self, index: int) -> Link | None:
        """The link with this index, whatever its name is now."""
        ...

    async def links(self) -> tuple[Link, ...]:
        """Every link: a full dump, for start, overflow and the periodic pass only."""
        ...

    async def traffic(self, name: str) -> Traffic | None:
        """Traffic control of the link ``name``, ``None`` if there is no such link."""
        ...

    async def functions(self, pf: str) -> Mapping[int, VfState]:
        """What the card ``pf`` does for each of its virtual functions, by number; none if there is no such card."""
        ...

    async def neighbours(self, name: str) -> tuple[Neighbour, ...]:
        """Who has answered the host on the link ``name``, of both families; none if there is no such link."""
        ...

    async def host_routes(self) -> tuple[HostRoute, ...]:
        """Unicast routes of both families in every table (not local, broadcast, multicast or loopback ones)."""
        ...

    async def possessions(self, name: str) -> Possessions | None:
        """What hangs on the link ``name`` and belongs to the host, ``None`` if there is no such link.

        That includes routes through other links that come from one of its addresses, for they go with the address.
        Rules of policy routing that name it are there without the link as well.
        """
        ...

    async def port_vlans(self, name: str) -> frozenset[PortVlan]:
        """The VLANs the bridge port ``name``, or the bridge itself, takes part in. ``HostError`` if there is none."""
        ...

    async def sysctls(self, paths: Sequence[tuple[str, ...]]) -> Mapping[tuple[str, ...], str | None]:
        """Values below /proc/sys, ``None`` for what does not exist."""
        ...

    async def apply(self, operations: Sequence[Operation]) -> None:
        """Execute in order; stop at the first that fails with a ``HostError`` naming it.

        ``DeleteLink`` runs on threads of its own, so that it delays nobody else, and has ended when the link is there
        no more.
        """
        ...


class Nft(Protocol):
    """vnetd's tables: ``inet vnetd``, ``bridge vnetd`` and ``netdev vnetd``."""

    @property
    def claimable(self) -> bool:
        """Whether the tables are open to others now and ``rewrite`` would make them vnetd's alone."""
        ...

    @property
    def features(self) -> BridgeFeatures:
        """What filters of ports can do here, tried when the host was opened."""
        ...

    async def commit(self, remove: Fragment, add: Fragment, rules: Sequence[MissingRule] = ()) -> None:
        """``remove``, then ``add``, then ``rules``, all or nothing. Tables are made as needed.

        It is one transaction unless something takes another's place, which takes up to three (``plan.stages``): no
        packet passes that both old and new forbid. Order inside: elements, then chains, then sets go; then sets,
        chains, elements come. A chain in both parts is flushed and filled again, never deleted. Of several ``rules``
        that come before the same one, the first comes first; their chains are in neither part.
        """
        ...

    def committing(self, remove: Fragment, add: Fragment) -> Commit:
        """``commit``, to be handed to what takes one."""
        ...

    async def rewrite(self, contents: Fragment) -> None:
        """One transaction that replaces all tables by ``contents`` whatever they held."""
        ...

    async def clear(self) -> None:
        """Delete all tables; tables that are gone already are no error."""
        ...

    async def table(self, family: Family) -> TableContents | None:
        """All of one table, ``None`` if it does not exist."""
        ...

    async def chain(self, family: Family, name: str) -> TableContents | None:
        """One chain, ``None`` if it does not exist."""
        ...

    async def handles(self, family: Family, chain: str) -> tuple[int, ...]:
        """What the kernel calls the rules of a chain, in their order; none if there is no such chain.

        A handle is one rule's for as long as there is its table, and what a rule says never changes.
        """
        ...

    async def set(self, family: Family, name: str) -> frozenset[Element] | None:
        """The elements of one set, ``None`` if it does not exist."""
        ...

    async def counts(self, family: Family, chains: Collection[str]) -> Mapping[str, tuple[Count, ...]]:
        """What the rules of these chains have counted, in their order; chains that are gone are left out."""
        ...

    async def strangers(self) -> tuple[Stranger, ...]:
        """Base chains of all other tables, whosever they are."""
        ...


class Packets(Protocol):
    """Copies of packets that rules show (``ruleset.learning``), as they pass."""

    @property
    def problem(self) -> str:
        """Why none can be seen on this host, "" if they can."""
        ...

    def subscribe(self, listener: Callable[[Packet], None]) -> None:
        """Call ``listener`` on the event loop's thread for every packet from now on. What is too much is lost."""
        ...


class Taps(Protocol):
    """Tap devices."""

    async def open(
        self, name: str, queues: int, vnet_hdr: bool, owner: int = 0, then: Sequence[SetLink | WriteSysctl] = ()
    ) -> list[int]:
        """Make a tap, down, and return one open fd a queue, which the caller owns; it goes when the last is closed.

        Only ``owner`` (-1: the group it gets) may open it besides. It stays, with no queue, if a holder made it so.
        ``then`` is done to it at once; if that fails, there is no tap.
        """
        ...

    async def open_seen(
        self,
        name: str,
        queues: int,
        vnet_hdr: bool,
        then: Sequence[SetLink | WriteSysctl],
        look: Sequence[str],
        placing: Sequence[SetLink] = (),
        commit: Commit | None = None,
    ) -> tuple[list[int], tuple[Link | None, ...]]:
        """``commit``, ``open`` for root, ``placing`` unless the bridge it names is away, and how links are then."""
        ...

    async def keep(self, name: str, fds: Sequence[int], group: int) -> None:
        """Have a tap stay, -1 for no group, and close its queues; if that fails they are still open."""
        ...

    async def reclaim(self, name: str) -> bool:
        """Delete a persistent tap of one queue if nobody has that open; whether it did."""
        ...

    async def close(self, fds: Sequence[int]) -> None:
        """Close fds on a worker thread (closing the last one of a tap takes the kernel 20 ms)."""
        ...


class Namespaces(Protocol):
    """Network namespaces guests live in."""

    async def open(self, reference: str) -> int:
        """An fd of the namespace with this name, absolute path or process id; the caller closes it.

        ``Invalid`` for what cannot be one of these; ``NotFound`` for all else, whether there is another kind of file
        or none, so that nobody learns from it what files there are.
        """
        ...

    async def configure_peer(
        self, netns: int, name: str, *, addresses: Sequence[IPInterface] = (), gateways: Sequence[IPAddress] = ()
    ) -> None:
        """Address and raise the link ``name`` inside the namespace open at fd ``netns``, then add default routes."""
        ...

    async def make_pair(
        self,
        pair: CreateVeth,
        *,
        then: Sequence[WriteSysctl] = (),
        look: Sequence[str] = (),
        addresses: Sequence[IPInterface] = (),
        gateways: Sequence[IPAddress] = (),
        placing: Sequence[SetLink] = (),
        commit: Commit | None = None,
    ) -> tuple[Link | None, ...]:
        """``commit``, make a veth pair, do ``then``, configure the other end, and do ``placing`` unless a bridge it
        names is away.

        Returns how the links ``look`` are after that. If something fails the pair stays.
        """
        ...

    async def owner(self, netns: int) -> int | None:
        """The uid to whom the namespace open at fd ``netns`` belongs, ``None`` if that is the host's own."""
        ...

    async def number(self, netns: int) -> int:
        """What the namespace open at fd ``netns`` is known by here for as long as it exists."""
        ...

    async def move(self, netns: int, device: str, name: str) -> None:
        """Move a link of ours into a namespace and call it ``name`` there; EEXIST if that is taken, even so moved."""
        ...

    async def link(self, number: int, name: str, alias: str) -> Link | None:
        """The link with this alias (ours) in a namespace, ``None`` if there is none or no such namespace.

        It was given ``name`` there, which whoever lives in the namespace known by ``number`` may have changed.
        """
        ...

    async def delete(self, number: int, name: str, alias: str) -> None:
        """Delete the link with this alias in a namespace, as ``link`` finds it; one that is gone is no error."""
        ...


class Dnsmasq(Protocol):
    """dnsmasq processes, one a network, named by the network's UUID."""

    async def adopt(self) -> tuple[str, ...]:
        """Take over processes an earlier run of the daemon started; UUIDs of the networks they serve."""
        ...

    async def upstream(self) -> tuple[str, ...]:
        """Addresses of the host's own name servers; a change is a ``FileEvent`` of network ""."""
        ...

    def prepare(self, instance: Instance) -> None:
        """Begin what ``start`` would begin with, while something else has to be done first; ``stop`` ends it."""
        ...

    async def start(self, instance: Instance) -> DnsmasqState:
        """Write the files, start dnsmasq, return what is there once it serves. Ends one that runs already first."""
        ...

    async def observe(self, network: str) -> DnsmasqState:
        """What runs and what its files hold now."""
        ...

    async def reload(self, instance: Instance) -> None:
        """Write the files and have the running process read hosts and servers again (SIGHUP)."""
        ...

    async def stop(self, network: str, *, forget: bool) -> None:
        """End the process and remove its files but the leases; with ``forget`` those too. None is no error."""
        ...

    async def give_leases(self, network: str, text: str) -> None:
        """Make ``text`` the lease file of a network that nobody serves now."""
        ...

    async def leases(self, network: str) -> str | None:
        """Text of the lease file once it is complete and stable; ``None`` if there is none."""
        ...


class Store(Protocol):
    """Directories of JSON documents: ``etc/networks``, ``etc/filters``, ``run/networks``, ``run/ports``, …"""

    async def load(self, kind: str) -> Mapping[str, object]:
        """Every document of a kind by name. One that does not parse is set aside and logged, not returned."""
        ...

    async def broken(self, kind: str) -> frozenset[str]:
        """Names of documents that were set aside and not written anew: nothing they described may be torn down."""
        ...

    async def installed(self, name: str) -> str:
        """Text of a file that was installed with vnetd, or of the administrator's in its place; "" if there is none."""
        ...

    async def save(self, kind: str, name: str, document: object) -> None:
        """Write atomically: temporary file, fsync, rename, fsync of the directory."""
        ...

    async def delete(self, kind: str, name: str) -> None:
        """Remove a document and fsync the directory; one that is gone already is no error."""
        ...


class Capabilities(Protocol):
    """What this host can do."""

    async def all(self) -> tuple[Capability, ...]:
        """Every ability, found out at the first question and known from then on. Never fails: a no has a reason."""
        ...

    def forget(self) -> None:
        """Find out anew at the next question: programs and modules may have come or gone."""
        ...


class Events(Protocol):
    """What the host reports."""

    def subscribe(self, listener: Callable[[HostEvent], None]) -> None:
        """Call ``listener`` on the event loop's thread for every event from now on."""
        ...


class Host(Protocol):
    """Everything together."""

    @property
    def kernel(self) -> Kernel: ...
    @property
    def nft(self) -> Nft: ...
    @property
    def packets(self) -> Packets: ...
    @property
    def taps(self) -> Taps: ...
    @property
    def macvtaps(self) -> Macvtaps: ...
    @property
    def functions(self) -> Functions: ...
    @property
    def passt(self) -> Passt: ...
    @property
    def namespaces(self) -> Namespaces: ...
    @property
    def dnsmasq(self) -> Dnsmasq: ...
    @property
    def resolver(self) -> Resolver: ...
    @property
    def store(self) -> Store: ...
    @property
    def events(self) -> Events: ...
    @property
    def capabilities(self) -> Capabilities: ...
