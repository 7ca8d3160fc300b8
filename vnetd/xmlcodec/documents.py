"""The one entrance for documents from outside, be they libvirt XML or native JSON, and the way out.

A document is XML if it begins with ``<`` (after white space), else JSON. Everything that can be wrong with one is
``Invalid``, with one sentence that names the place (line and element, or JSON path), the value and the rule.
"""

from typing import Any

from pydantic import BaseModel

from vnetd.model.errors import Invalid
from vnetd.model.filter import Binding, Filter
from vnetd.model.network import Network
from vnetd.model.network_warnings import warnings
from vnetd.model.networkport import NetworkPort
from vnetd.model.switch import Switch
from vnetd.xmlcodec.filter import binding_from_xml, binding_to_xml, filter_from_xml, filter_to_xml
from vnetd.xmlcodec.metadata import canonical_metadata
from vnetd.xmlcodec.native import describe, from_json, load_object, to_json
from vnetd.xmlcodec.network import network_from_xml, network_to_xml
from vnetd.xmlcodec.network_writer import Usage
from vnetd.xmlcodec.networkport import port_from_xml, port_to_xml
from vnetd.xmlcodec.parsed import Parsed
from vnetd.xmlcodec.reader import place
from vnetd.xmlcodec.xml import SPACE, parse_xml

__all__ = [
    "Parsed",
    "Usage",
    "binding_to_json",
    "binding_to_xml",
    "filter_to_json",
    "filter_to_xml",
    "json_schema",
    "network_to_json",
    "network_to_xml",
    "parse_binding",
    "parse_document",
    "parse_filter",
    "parse_network",
    "parse_port",
    "parse_switch",
    "port_to_json",
    "port_to_xml",
    "switch_to_json",
]

KINDS: dict[str, type[BaseModel]] = {
    "network": Network,
    "filter": Filter,
    "binding": Binding,
    "port": NetworkPort,
    "switch": Switch,
}


def parse_network(text: str, *, lenient: bool = False) -> Parsed[Network]:
    """A network. ``lenient``: what is unknown is dropped with a warning instead of being refused."""
    if _is_xml(text):
        return network_from_xml(text, lenient=lenient)
    network, dropped = from_json(Network, text, lenient=lenient)
    if network.metadata:
        network = network.model_copy(update={"metadata": canonical_metadata(network.metadata)})
    raw = network.model_dump(mode="json", by_alias=True)
    return Parsed(network, (*dropped, *(describe(one, raw) for one in warnings(network))))


def parse_switch(text: str, *, lenient: bool = False) -> Parsed[Switch]:
    """A switch, which only native JSON can describe."""
    if _is_xml(text):
        raise Invalid("a switch is described as JSON: libvirt's XML has no such document")
    switch, dropped = from_json(Switch, text, lenient=lenient)
    return Parsed(switch, tuple(dropped))


def parse_filter(text: str, *, lenient: bool = False) -> Parsed[Filter]:
    """A filter; ``Unsupported`` names a protocol that comes later."""
    if _is_xml(text):
        return filter_from_xml(text, lenient=lenient)
    # Not strict: this model fills in a default before validation, after which lists are no longer JSON's.
    filter, dropped = from_json(Filter, text, lenient=lenient, strict=False)
    return Parsed(filter, tuple(dropped))


def parse_binding(text: str, *, lenient: bool = False) -> Parsed[Binding]:
    """A filter binding."""
    if _is_xml(text):
        return binding_from_xml(text, lenient=lenient)
    binding, dropped = from_json(Binding, text, lenient=lenient)
    return Parsed(binding, tuple(dropped))


def parse_port(text: str, *, lenient: bool = False) -> Parsed[NetworkPort]:
    """A port of a network."""
    if _is_xml(text):
        return port_from_xml(text, lenient=lenient)
    port, dropped = from_json(NetworkPort, text, lenient=lenient)
    return Parsed(port, tuple(dropped))


def parse_document(
    text: str, *, lenient: bool = False
) -> Parsed[Network] | Parsed[Switch] | Parsed[Filter] | Parsed[Binding] | Parsed[NetworkPort]:
    """A document of any kind, told by its root element or, as JSON, by the fields only one kind has."""
    match _kind(text):
        case "network":
            return parse_network(text, lenient=lenient)
        case "switch":
            return parse_switch(text, lenient=lenient)
        case "filter":
            return parse_filter(text, lenient=lenient)
        case "port":
            return parse_port(text, lenient=lenient)
        case _:
            return parse_binding(text, lenient=lenient)


def network_to_json(network: Network) -> str:
    """The network as native JSON, without what is at its default."""
    return to_json(network)


def switch_to_json(switch: Switch) -> str:
    """The switch as native JSON, without what is at its default."""
    return to_json(switch)


def filter_to_json(filter: Filter) -> str:
    """The filter as native JSON, without what is at its default."""
    return to_json(filter)


def binding_to_json(binding: Binding) -> str:
    """The binding as native JSON, without what is at its default."""
    return to_json(binding)


def port_to_json(port: NetworkPort) -> str:
    """The port as native JSON, without what is at its default."""
    return to_json(port)


def json_schema(kind: str) -> dict[str, Any]:
    """JSON Schema of native documents of a kind: network, filter, binding or port. Raises ``Invalid`` for another."""
    if kind not in KINDS:
        raise Invalid(f"there is no schema {kind!r}: {', '.join(KINDS)} are there")
    schema = KINDS[kind].model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _is_xml(text: str) -> bool:
    return text.removeprefix("\ufeff").lstrip(SPACE).startswith("<")


_ROOTS = {"network": "network", "filter": "filter", "filterbinding": "binding", "networkport": "port"}
# Fields by which a JSON document of another kind than a network is told.
_MARKS = {"plug": "port", "device": "binding", "entries": "filter", "chain": "filter", "uplinks": "switch"}


def _kind(text: str) -> str:
    if not _is_xml(text):
        fields = load_object(text)
        if isinstance(fields.get("bridge"), str):  # a network's bridge has fields of its own
            return "switch"
        return next((kind for mark, kind in _MARKS.items() if mark in fields), "network")
    root = parse_xml(text)
    if root.tag not in _ROOTS:
        known = ", ".join(f"<{name}>" for name in _ROOTS)
        raise Invalid(f"{place(root)}: the root element is <{root.tag}>: one of {known} is needed")
    return _ROOTS[root.tag]
