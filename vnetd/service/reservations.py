"""Floors: what of a network's inbound average is promised to single ports. More than there is, is not promised."""

from uuid import UUID

from vnetd.model.errors import InUse, Invalid, Unsupported, VnetError
from vnetd.model.network import Network
from vnetd.model.port import PortRecord
from vnetd.plan.shaping import Floor, Shaping, floors_beyond, free_minor, shaping_of
from vnetd.reconcile.network import NetworkTarget
from vnetd.service.network_object import NetworkObject


def refuse_overcommitted(network: Network, floors: tuple[Floor, ...]) -> None:
    """Raise ``InUse`` if these floors are more than what guests of ``network`` are sure to get together."""
    limit = network.bandwidth.inbound if network.bandwidth else None
    if floors and not (limit and limit.average):
        raise Unsupported(
            f"network {network.name} has no inbound bandwidth, so none of it can be reserved (floor): limit it first"
        )
    if beyond := floors_beyond(limit, floors):
        raise InUse(
            f"network {network.name} cannot promise {sum(floor.rate for floor in floors)} kB/s (floor): that is "
            f"{beyond} more than its inbound average"
        )


def class_for(network: NetworkObject, uuid: UUID) -> int:
    """The minor number of the class for a port's floor. Raises ``InUse`` if there is none left."""
    if held := network.floors.get(uuid):
        return held.minor
    if minor := free_minor({floor.minor for floor in network.floors.values()}):
        return minor
    raise InUse(f"network {network.name} has no class left for another floor")


async def hold(network: NetworkObject, record: PortRecord) -> None:
    """Keep the floor of a port, or none, on its network. On failure what was reserved before is, and it is raised."""
    floor = Floor(record.mac, record.floor, record.floor_class) if record.floor and record.floor_class else None
    before = network.floors.get(record.uuid)
    if floor == before:
        return
    _set(network, record.uuid, floor)
    try:
        if floor:
            assert network.live is not None
            refuse_overcommitted(network.live, tuple(network.floors.values()))
        await _realise(network)
    except BaseException as failure:
        _set(network, record.uuid, before)
        try:
            await _realise(network)
        except VnetError as error:
            failure.add_note(f"and going back failed: {error}")
        raise


def restore(network: NetworkObject, record: PortRecord) -> None:
    """Take over a floor of an earlier run of the daemon; the next look at the network realises it."""
    if record.floor and record.floor_class:
        network.floors[record.uuid] = Floor(record.mac, record.floor, record.floor_class)
        if isinstance(target := network.target, NetworkTarget) and network.live:
            target.reshape(_shaping(network, network.live))


async def release(network: NetworkObject, uuid: UUID) -> None:
    """The port is gone."""
    if network.floors.pop(uuid, None):
        await _realise(network)


def refuse_without_place(network: Network, record: PortRecord) -> None:
    """Raise ``Invalid`` for a floor on a port whose network has no bridge to reserve on."""
    if record.floor and not network.mode.has_bridge:
        raise Invalid(f"network {network.name} (mode {network.mode}) has no bridge to reserve bandwidth on (floor)")


def _set(network: NetworkObject, uuid: UUID, floor: Floor | None) -> None:
    if floor:
        network.floors[uuid] = floor
    else:
        network.floors.pop(uuid, None)


async def _realise(network: NetworkObject) -> None:
    if isinstance(target := network.target, NetworkTarget) and network.live:
        async with target.lock:
            await target.limit(_shaping(network, network.live))


def _shaping(network: NetworkObject, live: Network) -> Shaping:
    return shaping_of(str(network.uuid), live.bandwidth, tuple(network.floors.values()))
