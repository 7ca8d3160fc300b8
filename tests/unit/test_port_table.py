"""Who uses which device of a pool: kept while ports come, move and go, so that nobody goes through all ports."""

from uuid import uuid4

from support.memory_host import MemoryHost

from vnetd.model.network_modes import MacvtapMode
from vnetd.model.networkport import DirectPlug, HostdevPlug
from vnetd.model.port import PortKind, PortRecord
from vnetd.plan.rules import EMPTY
from vnetd.reconcile.healer import Reporter
from vnetd.reconcile.loop import Loop
from vnetd.reconcile.port import DesiredPort, PortTarget, Watcher
from vnetd.service.network_object import NetworkObject
from vnetd.service.port_object import PortObject, PortTable
from vnetd.service.port_plugs import pci_address

FUNCTION = "0000:03:10.1"


class Nobody(Reporter, Watcher):
    """Is told nothing here."""


def network(name: str = "lab") -> NetworkObject:
    return NetworkObject(uuid4(), name)


def port(device: str, of: NetworkObject, **plug: object) -> PortObject:
    """A port of this device; ``plug`` says what it is plugged into."""
    fields = {"network": of.uuid, "device": device, "mac": "52:54:00:00:77:01", "owner": 0, **plug}
    record = PortRecord.model_validate({"uuid": uuid4(), "kind": PortKind.MACVTAP, **fields})
    desired = DesiredPort(str(record.uuid), device, "", "", None, None, isolated=False, fragment=EMPTY)
    loop = Loop(MemoryHost(), Nobody(), lambda _: None, lambda: None)
    return PortObject(record, of, PortTarget(loop, desired, Nobody()))


def on(lower: str) -> dict[str, object]:
    return {"plug": DirectPlug(type="direct", dev=lower, mode=MacvtapMode.BRIDGE)}


def test_a_device_is_used_by_ports_that_are_being_made_and_by_whole_ones_until_they_are_removed() -> None:
    table, lab = PortTable(), network()
    one, other = port("macvtap0", lab, **on("eth1")), port("macvtap1", lab, **on("eth1"))
    table.begin(one)
    assert table.using("eth1") == (one,)
    table.begin(other)
    table.add(one)
    assert table.using("eth1") == (one, other)
    table.remove(one)
    table.remove(other)
    assert table.using("eth1") == ()


def test_a_port_of_an_earlier_run_uses_its_device() -> None:
    table, lab = PortTable(), network()
    restored = port("macvtap0", lab, **on("eth1"))
    table.add(restored)
    assert (table.using("eth1"), table.using("eth2")) == ((restored,), ())


def test_a_function_is_used_by_its_address_a_card_below_a_macvlan_by_its_name_and_no_bridge_at_all() -> None:
    table, lab = PortTable(), network()
    function = port(
        "hostdev0", lab, kind=PortKind.HOSTDEV, plug=HostdevPlug(type="hostdev-pci", address=pci_address(FUNCTION))
    )
    inner, bridged = port("inner0", lab, kind=PortKind.MACVLAN, lower="eth2"), port("vnet0", lab, kind=PortKind.TAP)
    for one in (function, inner, bridged):
        table.add(one)
    assert (table.using(FUNCTION), table.using("eth2"), table.using("")) == ((function,), (inner,), ())


def test_a_port_keeps_its_device_in_another_network_and_with_another_record() -> None:
    table, lab, other = PortTable(), network(), network("other")
    moved = port("macvtap0", lab, **on("eth1"))
    table.add(moved)
    table.move(moved, other)
    moved.record = moved.record.model_copy(update={"network": other.uuid, "mac": "52:54:00:00:77:99"})
    assert [one.network for one in table.using("eth1")] == [other]
    table.remove(moved)
    assert table.using("eth1") == ()
