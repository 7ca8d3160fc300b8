"""The filters every host has, by the names and with the meaning libvirt gives them; the documents are our own."""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType

from vnetd.model.filter import Filter
from vnetd.xmlcodec.filter import filter_from_xml


@cache
def builtin_filters() -> Mapping[str, Filter]:
    """Built-in filters by name; read once, when first asked for."""
    documents = sorted(files("vnetd.xmlcodec").joinpath("builtin").iterdir(), key=lambda one: one.name)
    found = [filter_from_xml(one.read_text("utf-8")).value for one in documents if one.name.endswith(".xml")]
    return MappingProxyType({one.name: one for one in found})
