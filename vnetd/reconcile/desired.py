"""From a network the user described to what the kernel and dnsmasq must hold, normalised.

Normalised means: written the way the kernel will show it, for otherwise it would look like drift for ever. The
kernel raises the forward delay of a bridge with STP to 2 s and takes at most 30; IPv6 routes without a metric get
1024; a derived link-local address is desired too, since flushing the addresses takes it away for good.
"""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from vnetd.dnsmasq.render import needs_dnsmasq, render
from vnetd.model.errors import Unsupported
from vnetd.model.network import Mode, Network
from vnetd.plan.kernel import CreateBridge
from vnetd.plan.links import BridgeOptions, KernelRoute
from vnetd.plan.network import DesiredNetwork, Sysctl, link_local
from vnetd.plan.shaping import Floor, shaping_of
from vnetd.ruleset.network import network_fragment

DEFAULT_MTU = 1500
MIN_STP_DELAY, MAX_DELAY = 200, 3000  # 1/100 s: what the kernel takes with STP on
IPV6_DEFAULT_METRIC = 1024


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a network's realisation depends on besides its document."""

    state_directory: Path
    run_directory: Path
    upstream: tuple[str, ...] = ()


def alias_of(kind: str, uuid: str) -> str:
    """The tag vnetd puts on a link it made; only links that carry it are ever deleted."""
    return f"vnetd:{kind}:{uuid}"


def refuse_unrealised(network: Network) -> None:
    """Raise ``Unsupported`` naming what of ``network`` this version cannot realise."""
    for present, what in (
        (network.forwards and network.mode is not Mode.USER, "port forwards (forwards)"),
        (network.access, "access lists (access)"),
        (not network.mode.has_bridge and _virtual_ports(network), "a virtual port (<virtualport>)"),
        (
            network.bandwidth and not network.mode.has_bridge,
            "a limit without a bridge of its own (<bandwidth>)",
        ),
        (network.bridge.zone, "a firewalld zone (<bridge zone>)"),
        (network.bridge.mac_table == "vnetd", "a MAC table kept by the daemon (<bridge macTableManager='libvirt'>)"),
        (network.domain and network.domain.register_, "registration with systemd-resolved (<domain register>)"),
    ):
        if present:
            raise Unsupported(f"network {network.name}: {what} is not supported yet")


def _virtual_ports(network: Network) -> bool:
    return bool(network.virtualport) or any(group.virtualport for group in network.portgroups)


@dataclass(frozen=True, slots=True)
class Compiled:
    """What the host must hold for one form of a network, kept from when it was worked out."""

    network: Network
    around: Surroundings
    desired: DesiredNetwork

    def fits(self, network: Network, around: Surroundings) -> bool:
        """Whether that is this very form, in these surroundings."""
        return self.network is network and self.around == around


def compiled(network: Network, around: Surroundings) -> Compiled:
    """Work it out. Raises what realising the document would raise for itself."""
    return Compiled(network, around, desired_network(network, around))


def desired_network(network: Network, around: Surroundings, floors: Collection[Floor] = ()) -> DesiredNetwork:
    """What the host must hold for ``network`` with uuid, MAC, a final bridge name, and ``floors`` it has promised."""
    uuid, bridge, mac = str(network.uuid), str(network.bridge.name), str(network.mac)
    addresses = [address.address for address in network.addresses]
    has_ipv6 = any(address.version == 6 for address in addresses)
    if has_ipv6:
        addresses.append(link_local(mac))
    instance = None
    if needs_dnsmasq(network):
        instance = render(
            network,
            uuid=uuid,
            bridge=bridge,
            directory=str(around.state_directory / "dnsmasq" / uuid),
            run_directory=str(around.run_directory / "dnsmasq"),
            upstream=around.upstream,
        )
    return DesiredNetwork(
        uuid=uuid,
        bridge=_bridge(network, bridge, mac),
        addresses=tuple(addresses),
        routes=tuple(_routes(network)),
        sysctls=tuple(_sysctls(network, bridge, has_ipv6)),
        fragment=network_fragment(network, bridge),
        dnsmasq=instance,
        shaping=shaping_of(uuid, network.bandwidth, floors),
        complete_checksums=any(a.dhcp and a.dhcp.serves and a.address.version == 4 for a in network.addresses),
    )


def _bridge(network: Network, name: str, mac: str) -> CreateBridge:
    delay = min(network.bridge.delay * 100, MAX_DELAY)
    return CreateBridge(
        name=name,
        mac=mac,
        mtu=network.mtu or DEFAULT_MTU,
        stp=network.bridge.stp,
        forward_delay=max(delay, MIN_STP_DELAY) if network.bridge.stp else delay,
        alias=alias_of("network", str(network.uuid)),
        options=BridgeOptions(multicast_snooping=network.bridge.multicast_snooping),
    )


def _routes(network: Network) -> list[KernelRoute]:
    return [
        KernelRoute(
            route.destination,
            route.gateway,
            route.metric or (IPV6_DEFAULT_METRIC if route.destination.version == 6 else 0),
        )
        for route in network.routes
    ]


def _sysctls(network: Network, bridge: str, has_ipv6: bool) -> list[Sysctl]:
    """Sysctls of the bridge itself. It never takes addresses or routes from its guests' advertisements."""
    ipv6 = ("net", "ipv6", "conf", bridge)
    sysctls = [
        # 1: no link-local address by the kernel, which would make it while vnetd does on a bridge that is up.
        Sysctl((*ipv6, "addr_gen_mode"), "1", optional=True),
        Sysctl((*ipv6, "disable_ipv6"), "0" if has_ipv6 else "1", optional=not has_ipv6),
        Sysctl((*ipv6, "accept_ra"), "0", optional=True),
        Sysctl((*ipv6, "autoconf"), "0", optional=True),
    ]
    if network.mode is not Mode.ISOLATED:
        sysctls.append(Sysctl(("net", "ipv4", "conf", bridge, "forwarding"), "1"))
        if has_ipv6:
            sysctls.append(Sysctl((*ipv6, "forwarding"), "1"))
    return sysctls
