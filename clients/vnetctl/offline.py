"""``vnetctl convert`` and ``vnetctl schema``: the only commands that import the model, and need no daemon."""

import sys
from argparse import Namespace
from typing import TYPE_CHECKING

from vnetctl.errors import CommandError
from vnetctl.files import read_document
from vnetctl.grammar import DOCUMENT, Verb, argument
from vnetctl.output import Output
from vnetctl.text import printable

if TYPE_CHECKING:
    from vnetd.model.filter import Binding, Filter
    from vnetd.model.network import Network
    from vnetd.model.networkport import NetworkPort
    from vnetd.model.switch import Switch

KINDS = ("network", "switch", "filter", "binding", "port")


def convert(output: Output, arguments: Namespace) -> None:
    """Check a document and print it in the other form, or normalised in its own. Raises ``CommandError``."""
    from vnetd.model.errors import VnetError
    from vnetd.xmlcodec.documents import parse_document

    text = read_document(arguments.file)
    try:
        parsed = parse_document(text, lenient=arguments.lenient)
        document = _written(parsed.value, arguments.to)
    except VnetError as error:
        raise CommandError(str(error)) from None
    for warning in parsed.warnings:
        print(f"warning: {printable(warning)}", file=sys.stderr)
    output.document(document)


def _written(value: "Network | Switch | Filter | Binding | NetworkPort", form: str) -> str:
    from vnetd.model.errors import Unsupported
    from vnetd.model.filter import Filter
    from vnetd.model.network import Network
    from vnetd.model.networkport import NetworkPort
    from vnetd.model.switch import Switch
    from vnetd.xmlcodec import documents

    if isinstance(value, Switch):
        if form == "xml":
            raise Unsupported("a switch is described as JSON: libvirt's XML has no such document")
        return documents.switch_to_json(value)
    if isinstance(value, Network):
        return documents.network_to_xml(value) if form == "xml" else documents.network_to_json(value)
    if isinstance(value, Filter):
        return documents.filter_to_xml(value) if form == "xml" else documents.filter_to_json(value)
    if isinstance(value, NetworkPort):
        return documents.port_to_xml(value) if form == "xml" else documents.port_to_json(value)
    return documents.binding_to_xml(value) if form == "xml" else documents.binding_to_json(value)


def schema(output: Output, arguments: Namespace) -> None:
    """Print the JSON Schema of native documents."""
    from vnetd.xmlcodec.documents import json_schema

    output.json(json_schema(arguments.kind))


CONVERT = Verb(
    "convert", convert, "check a document and print it in either form",
    (*DOCUMENT, argument("--to", choices=("xml", "json"), required=True, help="libvirt's XML or native JSON")),
)  # fmt: skip
SCHEMA = Verb(
    "schema", schema, "print the JSON Schema of native documents",
    (argument("kind", choices=KINDS, metavar="KIND", help=", ".join(KINDS)),),
)  # fmt: skip
