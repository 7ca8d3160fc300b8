"""The interface contracts: what ``dbus/*.xml`` promises is what is dispatched, type-checked and introspected."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from xml.etree import ElementTree

MANAGER = "org.vnetd1.Manager"
NETWORK = "org.vnetd1.Network"
SWITCH = "org.vnetd1.Switch"
FILTER = "org.vnetd1.Filter"
PORT = "org.vnetd1.Port"
BINDING = "org.vnetd1.Binding"
OWN = (MANAGER, NETWORK, SWITCH, FILTER, PORT, BINDING)

PROPERTIES = "org.freedesktop.DBus.Properties"
INTROSPECTABLE = "org.freedesktop.DBus.Introspectable"
PEER = "org.freedesktop.DBus.Peer"
OBJECT_MANAGER = "org.freedesktop.DBus.ObjectManager"
STANDARD = (PROPERTIES, INTROSPECTABLE, PEER, OBJECT_MANAGER)

DOCTYPE = (
    '<!DOCTYPE node PUBLIC "-//freedesktop//DTD D-BUS Object Introspection 1.0//EN"\n'
    ' "http://www.freedesktop.org/standards/dbus/1.0/introspect.dtd">\n'
)

# The four interfaces of the D-Bus specification ("Standard Interfaces") that every object or the root has.
STANDARD_XML = f"""<node>
<interface name="{PROPERTIES}">
  <method name="Get"><arg name="interface" type="s" direction="in"/><arg name="property" type="s" direction="in"/>
    <arg name="value" type="v" direction="out"/></method>
  <method name="Set"><arg name="interface" type="s" direction="in"/><arg name="property" type="s" direction="in"/>
    <arg name="value" type="v" direction="in"/></method>
  <method name="GetAll"><arg name="interface" type="s" direction="in"/>
    <arg name="properties" type="a{{sv}}" direction="out"/></method>
  <signal name="PropertiesChanged"><arg name="interface" type="s"/><arg name="changed" type="a{{sv}}"/>
    <arg name="invalidated" type="as"/></signal>
</interface>
<interface name="{INTROSPECTABLE}">
  <method name="Introspect"><arg name="xml" type="s" direction="out"/></method>
</interface>
<interface name="{PEER}">
  <method name="Ping"/>
  <method name="GetMachineId"><arg name="machine_id" type="s" direction="out"/></method>
</interface>
<interface name="{OBJECT_MANAGER}">
  <method name="GetManagedObjects"><arg name="objects" type="a{{oa{{sa{{sv}}}}}}" direction="out"/></method>
  <signal name="InterfacesAdded"><arg name="object" type="o"/><arg name="interfaces" type="a{{sa{{sv}}}}"/></signal>
  <signal name="InterfacesRemoved"><arg name="object" type="o"/><arg name="interfaces" type="as"/></signal>
</interface>
</node>"""


@dataclass(frozen=True, slots=True)
class Method:
    """A method with the signatures of what it takes and gives."""

    name: str
    takes: str
    gives: str


EMITS = "org.freedesktop.DBus.Property.EmitsChangedSignal"


@dataclass(frozen=True, slots=True)
class Property:
    """A property; all are readable. With ``invalidates`` a change is announced without the new value."""

    name: str
    signature: str
    writable: bool
    invalidates: bool = False


@dataclass(frozen=True, slots=True)
class Contract:
    """One interface. ``signals`` maps names to signatures; ``xml`` is its introspection, without comments."""

    name: str
    methods: Mapping[str, Method]
    properties: Mapping[str, Property]
    signals: Mapping[str, str]
    xml: str


def parse_contracts(text: str) -> Iterator[Contract]:
    """The interfaces of one introspection document of our own."""
    for element in ElementTree.fromstring(text).iterfind("interface"):  # noqa: S314 - a file of ours
        ElementTree.indent(element, level=1)
        yield Contract(
            name=element.attrib["name"],
            methods={
                name: Method(name, _arguments(method, "in"), _arguments(method, "out"))
                for name, method in _named(element, "method")
            },
            properties={
                name: Property(name, p.attrib["type"], p.attrib["access"] == "readwrite", _invalidates(p))
                for name, p in _named(element, "property")
            },
            signals={name: _arguments(s, None) for name, s in _named(element, "signal")},
            xml=ElementTree.tostring(element, encoding="unicode").rstrip(),
        )


def _named(parent: ElementTree.Element, tag: str) -> Iterator[tuple[str, ElementTree.Element]]:
    return ((element.attrib["name"], element) for element in parent.iterfind(tag))


def _invalidates(element: ElementTree.Element) -> bool:
    return any(a.get("name") == EMITS and a.get("value") == "invalidates" for a in element.iterfind("annotation"))


def _arguments(member: ElementTree.Element, direction: str | None) -> str:
    return "".join(a.attrib["type"] for a in member.iterfind("arg") if a.get("direction") == direction)


def contract_folder() -> Traversable:
    """Where the contracts are: inside the installed package, or ``dbus/`` at the top of a checkout."""
    packaged = files("vnetd.bus").joinpath("contracts")
    return packaged if packaged.is_dir() else Path(__file__).resolve().parents[2] / "dbus"


def load_contracts() -> dict[str, Contract]:
    """All interfaces by name, ours and the standard ones.

    Raises ``FileNotFoundError`` when the installation lacks a contract: the daemon must not run without.
    """
    folder = contract_folder()
    texts = [folder.joinpath(f"{name}.xml").read_text(encoding="utf-8") for name in OWN]
    return {contract.name: contract for text in (*texts, STANDARD_XML) for contract in parse_contracts(text)}
