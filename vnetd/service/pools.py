"""Which device of a network's pool a new port gets. Source of the rules: libvirt's allocation of network ports."""

from collections.abc import Collection, Mapping, Sequence

from vnetd.model.errors import InUse
from vnetd.model.network import MacvtapMode, Network
from vnetd.service.registry import Named

Users = Mapping[str, Collection[Named]]
"""The ports on each device, of all networks."""


def needs_device_alone(network: Network) -> bool:
    """Whether a port of this macvtap network has its device to itself."""
    qbh = network.virtualport is not None and network.virtualport.type == "802.1Qbh"
    return network.macvtap_mode is MacvtapMode.PASSTHROUGH or (network.macvtap_mode is MacvtapMode.PRIVATE and qbh)


def pick_lower(network: Network, pool: Sequence[str], users: Users, taken: Collection[str] = ()) -> str:
    """The least used device of ``pool``, the first of equals; in exclusive modes one that nobody uses.

    ``taken`` are those somebody has to himself. Raises ``InUse`` naming the pool, and who has its devices.
    """
    if not pool:
        raise InUse(f"network {network.name} has no network device to make ports on: its pool is empty")
    alone = needs_device_alone(network)
    free = [name for name in pool if name not in taken and not (alone and users.get(name))]
    if not free:
        needs = "requires exclusive access to a network device" if alone else "needs a network device"
        raise InUse(f"network {network.name} {needs}, and none of its pool is available: {_who(pool, users)}")
    return min(free, key=lambda name: len(users.get(name, ())))


def pick_function(network: Network, pool: Sequence[str], users: Users) -> str:
    """The first PCI function of ``pool`` that nobody has. Raises ``InUse`` naming the pool and who has its devices."""
    for address in pool:
        if not users.get(address):
            return address
    if not pool:
        raise InUse(f"network {network.name} has no virtual function to hand out: its pool is empty")
    raise InUse(
        f"network {network.name} requires exclusive access to a virtual function, and none of its pool is "
        f"available: {_who(pool, users)}"
    )


def _who(pool: Sequence[str], users: Users) -> str:
    ports = {name: ", ".join(f"port {one.name}" for one in users.get(name, ())) for name in pool}
    return "; ".join(f"{name} ({ports[name] or 'in use'})" for name in pool)
