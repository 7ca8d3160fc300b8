"""Updates of the sections ip-dhcp-host and ip-dhcp-range. Source: virsh's net-update and libvirt's semantics of it."""

from vnetd.model.base import IPAddress, Mac, Text, Value
from vnetd.model.errors import Invalid, NotFound
from vnetd.model.network import Address, Dhcp, DhcpHost, DhcpRange, Lease, Network
from vnetd.xmlcodec.network_addresses import read_dhcp_host, read_range
from vnetd.xmlcodec.reader import build
from vnetd.xmlcodec.update_items import Change, removed, replaced


class Criteria(Value):
    """What is said of a host that is to go; ``id`` and ``lease`` decide nothing."""

    mac: Mac | None = None
    id: Text | None = None
    name: Text | None = None
    address: IPAddress | None = None
    lease: Lease | None = None


def change_hosts(network: Network, change: Change, parent_index: int) -> dict[str, object]:
    """Add, replace or remove a static DHCP host."""
    index = _parent(network, parent_index)
    parent, dhcp = network.addresses[index], network.addresses[index].dhcp or Dhcp()
    if change.command == "delete":
        criteria = build(Criteria, read_dhcp_host(change.element, address_needed=False))
        at = _host_to_remove(dhcp, criteria, change)
        return _with_dhcp(network, index, dhcp, {"hosts": removed(dhcp.hosts, at)})
    host = build(DhcpHost, read_dhcp_host(change.element))
    _check_family(parent, host.address, change)
    same = [at for at, other in enumerate(dhcp.hosts) if _alike(host, other)]
    if change.adds:
        if same:
            change.exists(f"a host with this mac, name or ip on {parent.address}")
        return _with_dhcp(network, index, dhcp, {"hosts": change.insert(dhcp.hosts, host)})
    if not same:
        change.missing(f"host on {parent.address}: mac, name and ip are all unknown")
    return _with_dhcp(network, index, dhcp, {"hosts": replaced(dhcp.hosts, same[0], host)})


def change_ranges(network: Network, change: Change, parent_index: int) -> dict[str, object]:
    """Add or remove a DHCP range; it is told by start and end."""
    index = _parent(network, parent_index)
    parent, dhcp = network.addresses[index], network.addresses[index].dhcp or Dhcp()
    span = build(DhcpRange, read_range(change.element))
    _check_family(parent, span.start, change)
    same = [at for at, other in enumerate(dhcp.ranges) if (other.start, other.end) == (span.start, span.end)]
    if not change.adds:
        at = change.one(same, f"range on {parent.address}")
        return _with_dhcp(network, index, dhcp, {"ranges": removed(dhcp.ranges, at)})
    if same:
        change.exists(f"this range on {parent.address}")
    return _with_dhcp(network, index, dhcp, {"ranges": change.insert(dhcp.ranges, span)})


def _parent(network: Network, index: int) -> int:
    """Index of the address meant: the one given, else the first with DHCP, the first of IPv4, the first of all."""
    addresses = network.addresses
    if index >= len(addresses) or not addresses:
        raise NotFound(f"network {network.name} has {len(addresses)} <ip> elements: there is none of index {index}")
    if index >= 0:
        return index
    served = [at for at, address in enumerate(addresses) if address.dhcp and address.dhcp.serves]
    ipv4 = [at for at, address in enumerate(addresses) if address.address.version == 4]
    return (served or ipv4 or [0])[0]


def _check_family(parent: Address, address: IPAddress, change: Change) -> None:
    if address.version != parent.address.version:
        raise Invalid(f"{change.element.place()}: {address} is of another family than {parent.address}")


def _alike(host: DhcpHost, other: DhcpHost) -> bool:
    """Whether two hosts share what each may have but once."""
    return (
        host.address == other.address
        or (host.mac is not None and _canonical(host) == _canonical(other))
        or (host.name is not None and host.name == other.name)
    )


def _canonical(host: DhcpHost) -> str | None:
    return Criteria(mac=host.mac).mac


def _host_to_remove(dhcp: Dhcp, criteria: Criteria, change: Change) -> int:
    if criteria.mac is None and criteria.name is None and criteria.address is None:
        raise Invalid(f"{change.element.place()}: mac, name or ip is needed to tell which host is meant")
    found = [at for at, host in enumerate(dhcp.hosts) if _matches(criteria, host)]
    if not found:
        change.missing("host")
    return found[0]


def _matches(criteria: Criteria, host: DhcpHost) -> bool:
    """All that is said must hold; a MAC says nothing about a host that has none."""
    return (
        (criteria.mac is None or host.mac is None or criteria.mac == _canonical(host))
        and (criteria.name is None or criteria.name == host.name)
        and (criteria.address is None or criteria.address == host.address)
    )


def _with_dhcp(network: Network, index: int, dhcp: Dhcp, updates: dict[str, object]) -> dict[str, object]:
    """The network's addresses with another DHCP on one; without any range and host it is gone, as when read."""
    parts = {name: getattr(dhcp, name) for name in Dhcp.model_fields} | updates
    parent = network.addresses[index]
    fields = {name: getattr(parent, name) for name in Address.model_fields}
    fields["dhcp"] = Dhcp.model_validate(parts) if parts["ranges"] or parts["hosts"] else None
    return {"addresses": replaced(network.addresses, index, Address.model_validate(fields))}
