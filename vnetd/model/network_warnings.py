"""What is accepted in a network, as libvirt accepts it, but is surely a mistake."""

from collections.abc import Iterator

from vnetd.model.breach import Breach
from vnetd.model.network import Address, DhcpHost, Network
from vnetd.model.network_modes import Mode

IPV6_MIN_MTU = 1280
"""RFC 8200, section 5."""


def warnings(network: Network) -> Iterator[Breach]:
    """Where the mistakes are, counted from the network, and what follows from each."""
    for index, address in enumerate(network.addresses):
        yield from _address(address, index)
    yield from _routes(network)
    yield from _devices(network)
    if network.mtu and network.mtu < IPV6_MIN_MTU and any(one.address.version == 6 for one in network.addresses):
        yield Breach(("mtu",), f"IPv6 does not work with an MTU below {IPV6_MIN_MTU} bytes")


def _address(address: Address, index: int) -> Iterator[Breach]:
    interface, here = address.address, ("addresses", index)
    subnet = interface.network
    if subnet.version == 4 and subnet.prefixlen < 31 and interface.ip in {subnet[0], subnet[-1]}:
        yield Breach((*here, "address"), f"{interface.ip} is the network or broadcast address of {subnet}")
    if address.dhcp is None:
        return
    if not address.dhcp.serves:
        yield Breach((*here, "dhcp"), "without a range or host DHCP hands out no address")
    seen: dict[tuple[str, str], int] = {}
    for number, host in enumerate(address.dhcp.hosts):
        place = (*here, "dhcp", "hosts", number)
        if host.address.version != subnet.version or host.address not in subnet:
            yield Breach((*place, "address"), f"address {host.address} lies outside the subnet {subnet}")
        for key in _identities(host):
            if seen.setdefault(key, number) != number:
                yield Breach(place, f"{key[0]} {key[1]} is given to another host already")


def _identities(host: DhcpHost) -> Iterator[tuple[str, str]]:
    yield "address", str(host.address)
    if host.mac:
        yield "mac", ":".join(group.zfill(2) for group in host.mac.lower().split(":"))
    if host.name:
        yield "name", host.name


def _routes(network: Network) -> Iterator[Breach]:
    own = {address.address.ip for address in network.addresses}
    for index, route in enumerate(network.routes):
        if route.gateway in own:
            yield Breach(("routes", index, "gateway"), f"gateway {route.gateway} is the host itself, not a guest")


def _devices(network: Network) -> Iterator[Breach]:
    devices = network.devices
    if network.mode in {Mode.MACVTAP, Mode.HOSTDEV} and not (devices.interfaces or devices.pf or devices.pci):
        yield Breach(("devices",), f"a network of mode {network.mode} without devices has nothing to give to ports")
    if network.mode.has_bridge:
        for path, port in [
            (("virtualport",), network.virtualport),
            *((("portgroups", i, "virtualport"), one.virtualport) for i, one in enumerate(network.portgroups)),
        ]:
            if port:
                yield Breach(path, f"no port of a network of mode {network.mode} can have a virtual port")
    elif network.dnsmasq_options:
        yield Breach(("dnsmasq_options",), f"a network of mode {network.mode} has no dnsmasq to give options to")
