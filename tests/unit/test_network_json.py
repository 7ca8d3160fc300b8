"""Native JSON is held to the same rules as XML, and to some of its own."""

import json
from typing import Any

import pytest

from vnetd.model.errors import Invalid, Unsupported
from vnetd.model.network import Network
from vnetd.xmlcodec.documents import (
    binding_to_json,
    filter_to_json,
    json_schema,
    network_to_json,
    network_to_xml,
    parse_document,
    parse_network,
)

EXAMPLE = """{"name": "lab", "mode": "nat",
 "addresses": [{"address": "192.168.77.1/24",
                "dhcp": {"ranges": [{"start": "192.168.77.10", "end": "192.168.77.99"}]}},
               {"address": "fd77::1/64", "dhcp": {"ranges": [{"start": "fd77::10", "end": "fd77::ff"}]}}],
 "nat": {"ipv6": true},
 "forwards": [{"protocol": "tcp", "listen": 8022, "to": "web1", "port": 22}],
 "domain": {"name": "lab", "register": true},
 "access": {"attach": ["@users"]}}"""
"""The example of the interface's description."""


def doc(**fields: Any) -> str:
    return json.dumps({"name": "n", **fields})


def served(**dhcp: Any) -> str:
    return doc(addresses=[{"address": "10.0.0.1/24", "dhcp": dhcp}])


REFUSED: dict[str, tuple[str, tuple[str, ...]]] = {
    "nothing": ("", ("empty",)),
    "white space": (" \n", ("empty",)),
    "no JSON": ("{name: n}", ("line 1", "neither XML nor JSON")),
    "a list": ("[]", ("no object",)),
    "a text": ('"n"', ("no object",)),
    "a field twice": ('{"name": "a", "name": "b"}', ("'name'", "given twice")),
    "a field twice below": ('{"name": "a", "dns": {"enable": true, "enable": true}}', ("'enable'", "given twice")),
    "not a number": ('{"name": "a", "mtu": NaN}', ("NaN",)),
    "infinity": ('{"name": "a", "mtu": -Infinity}', ("-Infinity",)),
    "digits without end": ('{"name": "a", "mtu": ' + "9" * 10_000 + "}", ("too many digits",)),
    "depth": ('{"name": ' * 100_000, ("nested too deeply",)),
    "depth of lists": ("[" * 100_000, ("nested too deeply",)),
    "size": ('{"name": "' + "n" * 2**20 + '"}', ("larger than 1048576 bytes",)),
    "lone surrogate": ('{"name": "\\ud800"}', ("no valid Unicode",)),
    "lone surrogate as name of a field": ('{"name": "n", "\\ud800": 1}', ("no valid Unicode",)),
    "unknown field": (doc(colour=1), ("colour 1", "unknown")),
    "unknown field below": (served(ranges=[], lamp="on"), ("addresses[0].dhcp.lamp 'on'", "unknown")),
    "name": ("{}", ("name is needed",)),
    "name of wrong type": ('{"name": 5}', ("name 5", "string")),
    "number as text": (doc(mtu="1500"), ("mtu '1500'", "integer")),
    "truth as text": (doc(bridge={"stp": "yes"}), ("bridge.stp 'yes'", "boolean")),
    "truth as number": (doc(guest_ipv6=1), ("guest_ipv6 1", "boolean")),
    "mode": (doc(mode="magic"), ("mode 'magic'", "nat")),
    "address without prefix": (doc(addresses=[{"address": "10.0.0.1"}]), ("addresses[0].address '10.0.0.1'", "prefix")),
    "address as number": (doc(addresses=[{"address": 5}]), ("addresses[0].address 5", "prefix")),
    "address of everything": (doc(addresses=[{"address": "10.0.0.1/0"}]), ("addresses[0].address", "subnet")),
    "octal address": (doc(addresses=[{"address": "010.0.0.1/8"}]), ("'010.0.0.1/8'", "no IP address")),
    "range outside": (
        served(ranges=[{"start": "10.0.0.2", "end": "10.0.0.3"}, {"start": "10.0.1.2", "end": "10.0.1.3"}]),
        ("addresses[0].dhcp.ranges[1].start '10.0.1.2'", "outside the subnet 10.0.0.0/24"),
    ),
    "range as number": (served(ranges=[{"start": 1, "end": 2}]), ("addresses[0].dhcp.ranges[0].start 1", "text")),
    "overlapping ranges": (
        served(ranges=[{"start": "10.0.0.2", "end": "10.0.0.9"}, {"start": "10.0.0.9", "end": "10.0.0.10"}]),
        ("addresses[0].dhcp.ranges[1]", "overlaps the range 10.0.0.2 to 10.0.0.9"),
    ),
    "route gateway": (
        doc(addresses=[{"address": "10.0.0.1/24"}], routes=[{"destination": "10.9.0.0/16", "gateway": "10.1.0.1"}]),
        ("routes[0].gateway '10.1.0.1'", "not in a subnet"),
    ),
    "destination without prefix": (
        doc(routes=[{"destination": "10.9.0.0", "gateway": "10.1.0.1"}]),
        ("routes[0].destination '10.9.0.0'", "prefix"),
    ),
    "macvtap without mode": (doc(mode="macvtap"), ("macvtap_mode", "is needed with mode macvtap")),
    "macvtap mode elsewhere": (doc(macvtap_mode="vepa"), ("macvtap_mode 'vepa'", "mode isolated")),
    "bridge without name": (doc(mode="bridge"), ("bridge.name", "existing bridge")),
    "stp of a host bridge": (
        doc(mode="bridge", bridge={"name": "br0", "stp": True}),
        ("bridge.stp true", "mode bridge"),
    ),
    "devices of an isolated network": (
        doc(devices={"interfaces": ["eth0"]}),
        ("devices.interfaces[0] 'eth0'", "mode isolated"),
    ),
    "several kinds of devices": (
        doc(mode="hostdev", devices={"interfaces": ["eth0"], "pf": "eth1"}),
        ("devices.pf 'eth1'", "exclude"),
    ),
    "registered but public": (
        doc(domain={"name": "d", "register": True, "local_only": False}),
        ("domain.local_only false", "local only"),
    ),
    "closed host of a pool": (
        doc(mode="hostdev", host_access=False),
        ("host_access false", "mode hostdev"),
    ),
    "forwards of a pool": (
        doc(mode="hostdev", forwards=[{"protocol": "tcp", "listen": 1, "to": "a"}]),
        ("forwards[0]", "mode hostdev"),
    ),
    "forward twice": (
        doc(forwards=[{"protocol": "tcp", "listen": 1, "to": "a"}, {"protocol": "tcp", "listen": 1, "to": "b"}]),
        ("forwards[1].listen 1", "forwarded already"),
    ),
    "access of nobody": (doc(access={"attach": ["@"]}), ("access.attach[0] '@'", "no user")),
    "metadata without namespace": (doc(metadata=["<a/>"]), ("metadata[0]", "<a> needs a namespace")),
    "metadata twice": (doc(metadata=["<a xmlns='u'/>", "<b xmlns='u'/>"]), ("metadata[1]", "no other")),
    "metadata that is no XML": (doc(metadata=["a"]), ("metadata[0]", "no well-formed XML")),
    "metadata with entities": (doc(metadata=["<!DOCTYPE a><a xmlns='u'/>"]), ("metadata[0]", "document type")),
    "description XML cannot say": (doc(description="\x1b[2J"), ("description", "no character of a text")),
    "raw option of two lines": (doc(dnsmasq_options=["a\nb"]), ("dnsmasq_options[0]", "control character")),
    "how XML spelled what it did not": (
        doc(addresses=[{"address": "10.0.0.1/24", "xml_mask": "none"}]),
        ("addresses[0].xml_mask 'none'", "class"),
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_is_refused_with_path_value_and_rule(name: str) -> None:
    text, words = REFUSED[name]
    with pytest.raises(Invalid) as caught:
        parse_network(text)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 400
    for word in words:
        assert word in message, message


def test_the_published_example_is_valid_by_model_and_by_schema() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = json_schema("network")
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(json.loads(EXAMPLE), schema)
    network = parse_network(EXAMPLE).value
    assert network.domain is not None and network.domain.local_only, "a registered domain is local"
    jsonschema.validate(json.loads(network_to_json(network)), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"name": "n", "colour": 1}, schema)


@pytest.mark.parametrize("kind", ["network", "filter", "binding"])
def test_every_kind_has_a_schema(kind: str) -> None:
    assert json_schema(kind)["$schema"].startswith("https://json-schema.org/")
    assert json_schema(kind)["type"] == "object"


def test_a_schema_of_something_else_is_refused_by_name() -> None:
    with pytest.raises(Invalid, match=r"'domain'.*network, filter, binding"):
        json_schema("domain")


def test_native_networks_have_no_stp_unless_they_ask() -> None:
    assert not parse_network(doc()).value.bridge.stp
    assert parse_network("<network><name>n</name></network>").value.bridge.stp


def test_defaults_are_left_out_and_the_order_is_the_models() -> None:
    text = doc(mtu=1500, mode="isolated", bridge={"stp": False}, nat=None, dns={}, uuid="AB" * 16)
    assert json.loads(network_to_json(parse_network(text).value)) == {
        "name": "n",
        "uuid": "abababab-abab-abab-abab-abababababab",
        "mtu": 1500,
    }
    assert list(json.loads(network_to_json(parse_network(text).value))) == ["name", "uuid", "mtu"]


def test_text_is_not_escaped_away() -> None:
    assert '"title": "é"' in network_to_json(Network(name="n", title="é"))


def test_a_byte_order_mark_is_no_fault() -> None:
    assert parse_network("\ufeff" + doc()).value.name == "n"


def test_unknown_fields_are_dropped_with_leniency_and_each_is_named() -> None:
    text = doc(colour={"a": 1}, dns={"lamp": 1, "hosts": [{"address": "1.1.1.1", "hostnames": ["a"], "shade": 2}]})
    parsed = parse_network(text, lenient=True)
    assert parsed.value == parse_network(doc(dns={"hosts": [{"address": "1.1.1.1", "hostnames": ["a"]}]})).value
    assert sorted(warning.split(":")[0] for warning in parsed.warnings) == [
        "colour",
        "dns.hosts[0].shade 2",
        "dns.lamp 1",
    ]
    with pytest.raises(Invalid, match="mtu 'x'"):
        parse_network(doc(colour=1, mtu="x"), lenient=True)


def test_warnings_name_the_json_path() -> None:
    text = served(hosts=[{"name": "a", "address": "10.9.0.1"}])
    assert parse_network(text).warnings == (
        "addresses[0].dhcp.hosts[0].address '10.9.0.1': address 10.9.0.1 lies outside the subnet 10.0.0.0/24",
    )


def test_mode_user_has_no_xml() -> None:
    with pytest.raises(Unsupported, match="network n: mode user"):
        network_to_xml(Network.model_validate({"name": "n", "mode": "user"}))


FILTER_XML = "<filter name='f'><rule action='drop' direction='in'><icmp/></rule></filter>"
BINDING_XML = (
    "<filterbinding><owner><name>o</name><uuid>d54df46f-1ab5-4a22-8618-4560ef5fac2c</uuid></owner>"
    "<portdev name='vnet0'/><mac address='0a:1b:2c:3d:4e:5f'/><filterref filter='f'/></filterbinding>"
)


def test_a_document_of_any_kind_is_told_by_what_it_is() -> None:
    filter, binding = parse_document(FILTER_XML).value, parse_document(BINDING_XML).value
    assert (type(filter).__name__, type(binding).__name__) == ("Filter", "Binding")
    assert parse_document(filter_to_json(filter)).value == filter  # type: ignore[arg-type]
    assert parse_document(binding_to_json(binding)).value == binding  # type: ignore[arg-type]
    assert isinstance(parse_document(doc()).value, Network)


def test_a_document_of_no_known_kind_is_refused_by_its_root() -> None:
    with pytest.raises(Invalid, match=r"<domain>.*<network>, <filter>, <filterbinding>, <networkport>"):
        parse_document("<domain/>")


def test_what_xml_has_no_words_for_is_carried_in_its_metadata() -> None:
    network = parse_network(EXAMPLE).value
    xml = network_to_xml(network)
    assert '<vnetd:native xmlns:vnetd="urn:org.vnetd1:network">{"forwards":[{"protocol":"tcp"' in xml
    assert parse_network(xml).value == network
    with pytest.raises(Invalid, match=r"<vnetd:native>: forwards\[0\]: to is needed"):
        parse_network(xml.replace('"to":"web1",', ""))
    with pytest.raises(Invalid, match="<vnetd:native>: dhcp_options: there are 0 addresses"):
        parse_network(
            "<network><name>n</name><metadata><vnetd:native xmlns:vnetd='urn:org.vnetd1:network'>"
            '{"dhcp_options": [[{"option": 3}]]}</vnetd:native></metadata></network>'
        )


def test_the_namespace_of_that_part_cannot_be_taken() -> None:
    with pytest.raises(Invalid, match=r"metadata\[0\]: <a> needs a namespace of its own"):
        parse_network(doc(metadata=["<a xmlns='urn:org.vnetd1:network'/>"]))
