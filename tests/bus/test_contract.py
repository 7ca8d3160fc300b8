"""The contracts in dbus/ are what runs: introspection, dispatch, properties and the table of rights agree with them."""

import asyncio
from pathlib import Path
from xml.etree import ElementTree

import pytest
from support.fake_services import FakeServices, one_of_each
from support.private_bus import PrivateBus, RawClient, method_call

from vnetd.bus import contracts
from vnetd.bus.authorization import ACCESS
from vnetd.bus.capabilities import CapabilityListing
from vnetd.bus.listing import Listing
from vnetd.bus.objects import INTERFACES, PROPERTIES, Objects
from vnetd.bus.server import build_handlers
from vnetd.bus.standard import interfaces_at

FILES = Path(__file__).resolve().parents[2] / "dbus"


def canonical(element: ElementTree.Element) -> object:
    """An element without comments and white space."""
    return element.tag, sorted(element.attrib.items()), [canonical(child) for child in element]


def interfaces(text: str) -> dict[str, object]:
    return {e.attrib["name"]: canonical(e) for e in ElementTree.fromstring(text).iterfind("interface")}


async def test_running_introspection_equals_the_contract_files(
    raw: RawClient, services: FakeServices, bus: PrivateBus
) -> None:
    for interface, path in (await one_of_each(services)).items():
        shipped = interfaces((FILES / f"{interface}.xml").read_text())
        shown = await bus.acall("introspect", "--xml-interface", "org.vnetd1", path)
        assert interfaces(shown)[interface] == shipped[interface]
        assert set(interfaces(shown)) - {interface} == set(interfaces_at_path(interface))


def interfaces_at_path(interface: str) -> set[str]:
    """The standard interfaces beside one of ours."""
    beside = {contracts.PROPERTIES, contracts.INTROSPECTABLE, contracts.PEER}
    return beside | {contracts.OBJECT_MANAGER} if interface == contracts.MANAGER else beside


async def test_busctl_shows_every_member_of_the_contracts(
    raw: RawClient, services: FakeServices, bus: PrivateBus
) -> None:
    loaded = contracts.load_contracts()
    for interface, path in (await one_of_each(services)).items():
        shown = await bus.acall("introspect", "org.vnetd1", path, interface)
        names = {line.split()[0].removeprefix(".") for line in shown.splitlines()[1:]}
        contract = loaded[interface]
        assert names == {*contract.methods, *contract.properties, *contract.signals}


async def test_every_folder_of_objects_lists_its_children(
    raw: RawClient, services: FakeServices, bus: PrivateBus
) -> None:
    paths = set((await one_of_each(services)).values())
    found: set[str] = set()
    todo = ["/"]
    while todo:
        path = todo.pop()
        found.add(path)
        shown = ElementTree.fromstring(await bus.acall("introspect", "--xml-interface", "org.vnetd1", path))
        todo += [f"{path.rstrip('/')}/{node.attrib['name']}" for node in shown.iterfind("node")]
    folders = {"/", "/org", *(f"/org/vnetd1/{kind}" for kind in INTERFACES)}
    assert found == paths | folders


async def room() -> None:
    """There is always room."""


async def test_rights_handlers_and_contracts_name_the_same_members() -> None:
    services = FakeServices()
    loaded = contracts.load_contracts()
    objects = Objects(services, loaded)
    listing = Listing(objects, room)
    capabilities = CapabilityListing(services, lambda *_: room())
    handlers = build_handlers(services, loaded, objects, listing, lambda fds: None, capabilities, room)
    members = {name: set(contract.methods) for name, contract in loaded.items()}
    assert {name: set(some) for name, some in ACCESS.items()} == members
    assert {name: set(some) for name, some in handlers.items()} == members


def test_every_property_of_the_contracts_has_a_value() -> None:
    loaded = contracts.load_contracts()
    for kind, interface in INTERFACES.items():
        assert set(PROPERTIES[kind]) == set(loaded[interface].properties)


def test_contracts_document_every_file_and_only_ours() -> None:
    assert {path.stem for path in FILES.glob("*.xml")} == set(contracts.OWN)
    assert set(contracts.load_contracts()) == {*contracts.OWN, *contracts.STANDARD}


def test_daemon_without_its_contracts_does_not_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(contracts, "contract_folder", lambda: tmp_path)
    with pytest.raises(FileNotFoundError):
        contracts.load_contracts()


async def test_each_answer_has_the_signature_of_its_contract(raw: RawClient, services: FakeServices) -> None:
    path = (await one_of_each(services))[contracts.NETWORK]
    calls = {
        ("/org/vnetd1", contracts.MANAGER, "ListNetworks", "a{sv}"): [{}],
        ("/org/vnetd1", contracts.MANAGER, "GetNetwork", "s"): ["lab"],
        ("/org/vnetd1", contracts.MANAGER, "Attach", "sa{sv}"): ["lab", {}],
        (path, contracts.NETWORK, "GetLeases", "a{sv}"): [{}],
        (path, contracts.PROPERTIES, "Get", "ss"): [contracts.NETWORK, "Name"],
        (path, contracts.PROPERTIES, "GetAll", "s"): [contracts.NETWORK],
        (path, contracts.PEER, "GetMachineId", ""): [],
        ("/org/vnetd1", contracts.OBJECT_MANAGER, "GetManagedObjects", ""): [],
    }
    loaded = contracts.load_contracts()
    for (where, interface, member, signature), body in calls.items():
        answer = await asyncio.to_thread(raw.call, method_call(where, interface, member, signature, *body))
        assert answer.signature == loaded[interface].methods[member].gives, answer.body


async def test_interface_may_be_left_out_of_a_call(raw: RawClient, services: FakeServices) -> None:
    path = (await one_of_each(services))[contracts.NETWORK]
    answer = await asyncio.to_thread(raw.call, method_call(path, None, "Start"))
    assert answer.error_name is None
    assert services.networks.get("lab").active
    answer = await asyncio.to_thread(raw.call, method_call(path, None, "Nonsense"))
    assert answer.error_name == "org.freedesktop.DBus.Error.UnknownMethod"


def test_path_that_leads_nowhere_answers_a_ping_and_no_more() -> None:
    assert interfaces_at(None) == (contracts.PEER,)
