"""libvirt's <filter> and <filterbinding> documents, both ways. Source: libvirt's nwfilter format page."""

from collections.abc import Iterator, Mapping

from vnetd.model.errors import Invalid
from vnetd.model.filter import (
    CHAIN_PRIORITIES,
    DEFAULT_PRIORITY,
    Attribute,
    Binding,
    Filter,
    Match,
    Parameters,
    Reference,
    Rule,
    chain_prefix,
    check_parameter,
)
from vnetd.model.filter_protocols import PROTOCOLS
from vnetd.model.filter_values import odd_ipv4
from vnetd.xmlcodec.parsed import Parsed
from vnetd.xmlcodec.reader import Element, Fields, build, open_document
from vnetd.xmlcodec.xml import SPACE, Writer


def filter_from_xml(text: str, *, lenient: bool = False) -> Parsed[Filter]:
    """Read a <filter>. ``lenient``: what is unknown is dropped with a warning.

    Raises ``Invalid`` naming line, element, value and rule.
    """
    root = open_document(text, "filter", lenient=lenient)
    fields = {
        "name": root.required("name"),
        "chain": root.attribute("chain"),
        "priority": _signed(root, "priority"),
        "uuid": _stripped(root, "uuid"),
        "entries": [
            _rule(one) if one.node.tag == "rule" else _reference(one) for one in root.each("filterref", "rule")
        ],
    }
    found = build(Filter, Fields(root, fields))
    root.finish()
    return Parsed(found, tuple(root.reading.warnings))


def binding_from_xml(text: str, *, lenient: bool = False) -> Parsed[Binding]:
    """Read a <filterbinding>. Raises ``Invalid`` if a piece is missing or wrong."""
    root = open_document(text, "filterbinding", lenient=lenient)
    owner, filterref, linkdev = _needed(root, "owner"), _needed(root, "filterref"), root.child("linkdev")
    for name in ("name", "uuid"):
        _needed(owner, name)
    fields = {
        "owner": Fields(owner, {name: _stripped(owner, name) or "" for name in ("name", "uuid")}),
        "device": _needed(root, "portdev").required("name"),
        "linkdev": linkdev.required("name") if linkdev else None,
        "mac": _needed(root, "mac").required("address"),
        "filter": filterref.required("filter"),
        "parameters": _parameters(filterref),
    }
    found = build(Binding, Fields(root, fields))
    root.finish()
    return Parsed(found, tuple(root.reading.warnings))


def filter_to_xml(filter: Filter) -> str:
    """The document, canonical: reading and writing it again changes nothing."""
    writer = Writer()
    default = CHAIN_PRIORITIES[chain_prefix(filter.chain)]
    priority = filter.priority if filter.priority or default else None
    with writer.element("filter", {"name": filter.name, "chain": filter.chain, "priority": priority}, pair=True):
        writer.text("uuid", str(filter.uuid) if filter.uuid else None)
        for entry in filter.entries:
            if isinstance(entry, Rule):
                _write_rule(writer, entry)
            else:
                _write_reference(writer, entry.filter, entry.parameters)
    return str(writer)


def binding_to_xml(binding: Binding) -> str:
    """The document, canonical. Raises ``Invalid`` for a binding without owner, which XML cannot say."""
    if binding.owner is None:
        raise Invalid(f"the binding of {binding.device} has no owner: a <filterbinding> document needs one")
    writer = Writer()
    with writer.element("filterbinding"):
        with writer.element("owner"):
            writer.text("name", binding.owner.name)
            writer.text("uuid", str(binding.owner.uuid))
        writer.empty("portdev", {"name": binding.device})
        if binding.linkdev:
            writer.empty("linkdev", {"name": binding.linkdev})
        writer.empty("mac", {"address": binding.mac})
        _write_reference(writer, binding.filter, binding.parameters)
    return str(writer)


def _needed(parent: Element, name: str) -> Element:
    child = parent.child(name)
    if child is None:
        raise parent.invalid(f"element <{name}> is needed")
    return child


def _stripped(parent: Element, name: str) -> str | None:
    text = parent.child_text(name)
    return text.strip(SPACE) if text else None


def _signed(element: Element, name: str) -> int | None:
    """A decimal number of any sign and size."""
    value = element.attribute(name)
    try:
        return None if value is None else int(value)
    except ValueError:
        raise element.invalid("a number is needed", name) from None


def _parameters(filterref: Element) -> Parameters:
    """Values by name; repeats of a name make a list."""
    found: dict[str, tuple[str, ...]] = {}
    for one in filterref.each("parameter"):
        name, value = one.required("name"), one.required("value")
        try:
            check_parameter(name, value)
        except ValueError as error:
            one.reading.drop(f"{one.place('value')}: {error}")
        else:
            found[name] = (*found.get(name, ()), value)
    return found


def _entry(element: Element) -> Rule | Reference:
    return _rule(element) if element.node.local == "rule" else _reference(element)


def _reference(element: Element) -> Reference:
    fields = {"filter": element.required("filter"), "parameters": _parameters(element)}
    return build(Reference, Fields(element, fields))


def _rule(element: Element) -> Rule:
    fields = {
        "action": element.required("action"),
        "direction": element.required("direction"),
        "priority": _priority(element),
        "statematch": (element.attribute("statematch") or "").lower() not in {"0", "false"},
        "match": _match(element),
    }
    return build(Rule, Fields(element, fields))


def _priority(rule: Element) -> int:
    """Out of range it is the default, as libvirt has it."""
    priority = _signed(rule, "priority")
    if priority is None or -1000 <= priority <= 1000:
        return DEFAULT_PRIORITY if priority is None else priority
    rule.warn(f"outside -1000 to 1000, so it counts as {DEFAULT_PRIORITY}", "priority")
    return DEFAULT_PRIORITY


def _match(rule: Element) -> Match | None:
    """The first element of a known protocol decides; further ones of the same name add attributes."""
    elements = rule.each(*PROTOCOLS)
    if not elements:
        return None
    chosen = elements[0].node.tag
    attributes: dict[str, Attribute] = {}
    for one in elements:
        if one.node.tag == chosen:
            attributes |= _attributes(one)
        else:
            one.reading.drop(f"{one.place()}: a rule has one protocol, here it is <{chosen}>")
            one.ignore(*one.node.attributes)
            one.ignore_content()
    attributes = dict(_with_signs(elements[0], attributes))
    return build(Match, Fields(elements[0], {"protocol": chosen, "attributes": tuple(attributes.values())}))


def _attributes(element: Element) -> dict[str, Attribute]:
    negated = element.attribute("match") == "no"
    known = PROTOCOLS[element.node.tag].attributes
    given = {name: element.attribute(name) for name in known}
    for name, value in given.items():
        if value and name.endswith(("ipaddr", "ipfrom", "ipto")) and odd_ipv4(value):
            element.warn("an address that is not four decimal octets is read as the C library reads it", name)
    return {
        name: Attribute(name=name, value=value, negated=negated and name != "comment")
        for name, value in given.items()
        if value is not None
    }


def _with_signs(element: Element, attributes: Mapping[str, Attribute]) -> Iterator[tuple[str, Attribute]]:
    """Masks, ends of ranges, other ports and codes follow the sign of their base, also of one that is not there."""
    for name, one in attributes.items():
        signs = PROTOCOLS[element.node.tag].signs
        base = attributes.get(signs.get(name, name))
        negated = base.negated if base else False
        if one.negated and not negated:
            element.warn(f"match='no' does not count for {name}, which follows {signs[name]}", name)
        yield name, one if one.negated == negated else one.model_copy(update={"negated": negated})


def _write_reference(writer: Writer, filter: str, parameters: Parameters) -> None:
    with writer.element("filterref", {"filter": filter}):
        for name, values in parameters.items():
            for value in values:
                writer.empty("parameter", {"name": name, "value": value})


def _write_rule(writer: Writer, rule: Rule) -> None:
    attributes = {
        "action": rule.action,
        "direction": rule.direction,
        "priority": rule.priority,
        "statematch": None if rule.statematch else "false",
    }
    with writer.element("rule", attributes):
        if rule.match:
            _write_match(writer, rule.match)


def _write_match(writer: Writer, match: Match) -> None:
    """What is matched and what is not are separate elements, the former first."""
    for negated in (False, True):
        chosen = {one.name: one.value for one in match.attributes if one.negated == negated}
        if chosen or not (negated or match.attributes):
            writer.empty(match.protocol, {"match": "no" if negated else None, **chosen})
