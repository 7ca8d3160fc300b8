"""What an operation is called in the errors of the real kernel's seam."""

from support import memory_traffic
from support.memory_bridges import BridgeOperation
from support.memory_bridges import words as bridge_words
from support.memory_possessions import PossessionOperation
from support.memory_possessions import words as possession_words

from vnetd.plan.functions import SetFunction
from vnetd.plan.kernel import (
    AddAddress,
    AddConnectedRoute,
    AddRoute,
    CreateBridge,
    CreateMacvlan,
    CreateVeth,
    DeleteAddress,
    DeleteLink,
    DeleteRoute,
    DisableTxChecksum,
    Operation,
    RenameLink,
    SetLink,
    WriteSysctl,
)
from vnetd.plan.traffic import TrafficOperation

WORDS: dict[type, str] = {
    CreateBridge: "create bridge",
    CreateVeth: "create veth",
    DeleteLink: "delete link",
    AddAddress: "add address",
    DeleteAddress: "delete address",
    AddConnectedRoute: "add route",
    AddRoute: "add route",
    DeleteRoute: "delete route",
    WriteSysctl: "write sysctl",
    DisableTxChecksum: "disable tx checksum of",
    SetFunction: "set",
}


def words(operation: Operation) -> tuple[str, str]:
    """Operation and object as the real kernel's errors name them."""
    if isinstance(operation, SetLink):
        names = ("mac", "mtu", "up", "alias", "master", "stp", "forward_delay", "isolated")
        changed = [name for name in names if getattr(operation, name) is not None]
        return f"set {', '.join(changed)} of", operation.name
    if isinstance(operation, RenameLink):
        return "rename", f"{operation.name} to {operation.new}"
    if isinstance(operation, CreateMacvlan):
        return f"create {operation.kind}", f"{operation.name} on {operation.lower}"
    for kinds, named in (
        (PossessionOperation, possession_words),
        (BridgeOperation, bridge_words),
        (TrafficOperation, memory_traffic.words),
    ):
        if isinstance(operation, kinds):
            return named(operation)  # type: ignore[operator, no-any-return]
    verb = WORDS[type(operation)]
    match operation:
        case AddAddress(link, address) | DeleteAddress(link, address):
            return verb, f"{address} on {link}"
        case AddConnectedRoute(link, address):
            return verb, f"{address.network} on {link}"
        case AddRoute(link, route) | DeleteRoute(link, route):
            return verb, f"{route.destination} on {link}"
        case WriteSysctl(path):
            return verb, "/".join(path)
    return verb, operation.name
