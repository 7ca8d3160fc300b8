"""<filter> and <filterbinding> documents: what is read, what is refused, and that writing is stable."""

from pathlib import Path

import pytest

from vnetd.model.errors import Invalid
from vnetd.model.filter import Action, Binding, Direction, Filter, Reference, Rule
from vnetd.xmlcodec.filter import binding_from_xml, binding_to_xml, filter_from_xml, filter_to_xml
from vnetd.xmlcodec.filter_builtin import builtin_filters

GOLDEN = Path(__file__).parent.parent / "golden" / "filter"
FILTERS = sorted((GOLDEN / "documents").glob("filter-*.xml"))
BINDINGS = sorted((GOLDEN / "documents").glob("binding-*.xml"))


def rule(match: str, attributes: str = "action='drop' direction='in'", **options: bool) -> Rule:
    """The one rule of a filter."""
    entry = filter_from_xml(f"<filter name='f'><rule {attributes}>{match}</rule></filter>", **options).value.entries[0]
    assert isinstance(entry, Rule)
    return entry


def values(match: str, **options: bool) -> dict[str, str]:
    """Attributes of a rule's match, "!" before the negated ones."""
    found = rule(match, **options).match
    assert found is not None
    return {one.name: ("!" if one.negated else "") + one.value for one in found.attributes}


@pytest.mark.parametrize("path", FILTERS, ids=lambda path: path.stem)
def test_documents_of_users_are_written_in_canonical_form(path: Path) -> None:
    written = filter_to_xml(filter_from_xml(path.read_text()).value)
    assert written == (GOLDEN / "canonical" / path.name).read_text()
    assert filter_to_xml(filter_from_xml(written).value) == written


@pytest.mark.parametrize("path", BINDINGS, ids=lambda path: path.stem)
def test_bindings_of_users_are_written_in_canonical_form(path: Path) -> None:
    written = binding_to_xml(binding_from_xml(path.read_text()).value)
    assert written == (GOLDEN / "canonical" / path.name).read_text()
    assert binding_to_xml(binding_from_xml(written).value) == written


@pytest.mark.parametrize("name", sorted(builtin_filters()))
def test_built_in_filters_survive_xml_and_json(name: str) -> None:
    one = builtin_filters()[name]
    assert filter_from_xml(filter_to_xml(one)).value == one
    assert Filter.model_validate_json(one.model_dump_json()) == one
    assert one.uuid is not None


def test_rules_and_references_keep_their_order() -> None:
    found = filter_from_xml(
        "<filter name='f'><rule action='accept' direction='out'/><filterref filter='b'>"
        "<parameter name='Z' value='2'/><parameter name='A' value='1'/><parameter name='Z' value='3'/></filterref>"
        "<rule action='drop' direction='inout' statematch='FALSE'/></filter>"
    ).value
    first, reference, last = found.entries
    assert isinstance(first, Rule) and isinstance(reference, Reference) and isinstance(last, Rule)
    assert (first.action, first.direction, first.priority, first.match) == (Action.ACCEPT, Direction.OUT, 500, None)
    assert dict(reference.parameters) == {"A": ("1",), "Z": ("2", "3")}
    assert not last.statematch


@pytest.mark.parametrize(
    ("chain", "priority"),
    [("root", 0), ("mac", -800), ("ipv4", -700), ("ipv4-x", -700), ("arp-x", -500), ("stp", 0), ("rarp", -400)],
)
def test_a_chain_has_the_priority_of_the_protocol_it_begins_with(chain: str, priority: int) -> None:
    found = filter_from_xml(f"<filter name='f' chain='{chain}'/>").value
    assert found.priority == priority
    assert ("priority=" in filter_to_xml(found)) == (priority != 0)


def test_priority_zero_of_a_chain_of_its_own_survives_writing() -> None:
    found = filter_from_xml("<filter name='f' chain='ipv4' priority='0'/>").value
    assert filter_from_xml(filter_to_xml(found)).value.priority == 0


@pytest.mark.parametrize(
    ("given", "canonical"),
    [
        ("<tcp dstportstart='0x16'/>", {"dstportstart": "0x16"}),
        ("<tcp dstportstart='ff'/>", {"dstportstart": "0xff"}),
        ("<tcp dstportstart='0022'/>", {"dstportstart": "22"}),
        ("<ip srcipaddr='10.0.0.1' srcipmask='255.255.0.0'/>", {"srcipaddr": "10.0.0.1", "srcipmask": "16"}),
        ("<ip srcipaddr='10.0.0.1' srcipmask='0.0.0.0'/>", {"srcipaddr": "10.0.0.1", "srcipmask": "0"}),
        ("<ipv6 srcipaddr='FE80:0::1'/>", {"srcipaddr": "fe80::1"}),
        ("<mac srcmacaddr='2:3:4:A:B:C'/>", {"srcmacaddr": "02:03:04:0a:0b:0c"}),
        ("<mac protocolid='ARP'/>", {"protocolid": "arp"}),
        ("<mac protocolid='0x835'/>", {"protocolid": "0x835"}),
        ("<arp opcode='reply' gratuitous='Yes'/>", {"opcode": "Reply", "gratuitous": "true"}),
        ("<tcp srcipaddr='$IP[@0]' srcportstart='$P[@2]' dstportstart='$Q[3]'/>",
         {"srcipaddr": "$IP", "srcportstart": "$P[@2]", "dstportstart": "$Q[3]"}),
        ("<tcp dstportstart='1' srcipaddr='10.0.0.1'/>", {"srcipaddr": "10.0.0.1", "dstportstart": "1"}),
        ("<tcp state='new,established'/>", {"state": "NEW,ESTABLISHED"}),
    ],
)  # fmt: skip
def test_values_are_kept_in_canonical_form_and_order(given: str, canonical: dict[str, str]) -> None:
    assert list(values(given).items()) == list(canonical.items())


@pytest.mark.parametrize(
    ("match", "named"),
    [
        ("<tcp dstportstart='65536'/>", "dstportstart"),
        ("<tcp dstportstart='http'/>", "dstportstart"),
        ("<ip srcipaddr='fe80::1'/>", "srcipaddr"),
        ("<ip srcipaddr='10.0.0.1' srcipmask='255.0.255.0'/>", "srcipmask"),
        ("<mac srcmacaddr='52:54:00:00:00'/>", "srcmacaddr"),
        ("<mac srcmacaddr='52:54:00:00:00:01' srcmacmask='ff:00:ff:00:00:00'/>", "srcmacmask"),
        ("<mac protocolid='0x5ff'/>", "protocolid"),
        ("<ip dscp='64'/>", "dscp"),
        ("<ip srcportstart='1'/>", "protocol"),
        ("<ip protocol='icmp' srcportstart='1'/>", "protocol"),
        ("<tcp srcipaddr='$IP[@1001]'/>", "srcipaddr"),
        ("<tcp srcipaddr='$I-P'/>", "srcipaddr"),
        ("<tcp comment='a&#10;b'/>", "comment"),
        ("<tcp flags='SYN'/>", "flags"),
    ],
)
def test_an_illegal_value_is_refused_naming_element_and_attribute(match: str, named: str) -> None:
    with pytest.raises(Invalid) as caught:
        rule(match)
    assert named in str(caught.value)
    assert match.split()[0] in str(caught.value)


@pytest.mark.parametrize(
    ("document", "named"),
    [
        ("<filter name='f' chain='rootx'/>", "rootx"),
        ("<filter name='f' chain='foo'/>", "foo"),
        ("<filter name='f' chain='ipv4-0123456789'/>", "ipv4-0123456789"),
        ("<filter name='f' chain='mac' priority='1001'/>", "1001"),
        ("<filter chain='root'/>", "name"),
        ("<filter name='a/b'/>", "a/b"),
        ("<filter name='f'><uuid>x</uuid></filter>", "uuid"),
        ("<filter name='f'><rule direction='in'/></filter>", "action"),
        ("<filter name='f'><rule action='accept'/></filter>", "direction"),
        ("<filter name='f'><rule action='let' direction='in'/></filter>", "let"),
        ("<filter name='f'><rule action='drop' direction='in' priority='high'/></filter>", "priority"),
        ("<filter name='f'><rule action='drop' direction='in'><foo/></rule></filter>", "foo"),
        ("<filter name='f'><rule action='drop' direction='in'><tcp port='1'/></rule></filter>", "port"),
        ("<filter name='f'><rule action='drop' direction='in'><tcp/><udp/></rule></filter>", "udp"),
        ("<filter name='f'><extra/></filter>", "extra"),
        ("<filter name='f'><filterref filter='x'><parameter name='A' value='a b'/></filterref></filter>", "a b"),
        ("<filter name='f'><filterref/></filter>", "filterref"),
        ("<network/>", "network"),
        ("<!DOCTYPE filter [<!ENTITY e 'x'>]><filter name='&e;'/>", "document type"),
    ],
)
def test_a_bad_document_is_refused_naming_what_is_wrong(document: str, named: str) -> None:
    with pytest.raises(Invalid) as caught:
        filter_from_xml(document)
    assert named in str(caught.value)


def test_addresses_are_read_as_libvirt_reads_them_and_odd_ones_are_remarked() -> None:
    text = "<filter name='f'><rule action='drop' direction='in'><ip srcipaddr='{}'/></rule></filter>"
    for given, meant in (("010.0.0.1", "8.0.0.1"), ("10.1", "10.0.0.1")):
        parsed = filter_from_xml(text.format(given))
        assert f"srcipaddr='{meant}'" in filter_to_xml(parsed.value)
        assert given in parsed.warnings[0]
    assert not filter_from_xml(text.format("10.0.0.1")).warnings


def test_lenient_reading_drops_what_is_unknown_and_says_so() -> None:
    parsed = filter_from_xml(
        "<filter name='f' colour='red'><extra/><rule action='drop' direction='in'><tcp port='1'/><udp/></rule>"
        "<filterref filter='x'><parameter name='A' value='a b'/></filterref></filter>",
        lenient=True,
    )
    assert len(parsed.warnings) == 5
    kept, reference = parsed.value.entries
    assert isinstance(kept, Rule) and kept.match and kept.match.protocol == "tcp"
    assert isinstance(reference, Reference) and not reference.parameters


def test_a_rule_priority_out_of_range_counts_as_the_default_with_a_warning() -> None:
    parsed = filter_from_xml("<filter name='f'><rule action='drop' direction='in' priority='1001'/></filter>")
    assert parsed.value.entries[0].priority == 500  # type: ignore[union-attr]
    assert "1001" in parsed.warnings[0]


def test_no_child_of_a_rule_negates_what_its_base_attribute_does_not() -> None:
    parsed = filter_from_xml(
        "<filter name='f'><rule action='drop' direction='in'><tcp match='no' dstportstart='22'/></rule></filter>"
    )
    assert "match='no'" not in filter_to_xml(parsed.value)
    assert "dstportstart" in parsed.warnings[0]


def test_ports_of_link_layer_rules_are_negated_each_for_itself() -> None:
    assert values("<ip protocol='tcp'/><ip match='no' dstportstart='22'/>") == {
        "protocol": "tcp",
        "dstportstart": "!22",
    }


def test_what_is_not_matched_is_written_after_what_is() -> None:
    text = "<filter name='f'><rule action='drop' direction='in'>{}</rule></filter>"
    both = "<ip match='no' dstipaddr='10.0.0.2' dstipmask='24'/><ip srcipaddr='10.0.0.1'/>"
    written = filter_to_xml(filter_from_xml(text.format(both)).value)
    assert "    <ip srcipaddr='10.0.0.1'/>\n    <ip match='no' dstipaddr='10.0.0.2' dstipmask='24'/>\n" in written
    assert filter_to_xml(filter_from_xml(written).value) == written


@pytest.mark.parametrize("piece", ["owner", "portdev", "mac", "filterref"])
def test_a_binding_needs_all_its_pieces(piece: str) -> None:
    text = BINDINGS[0].read_text()
    start, end = text.index(f"<{piece}"), text.index("\n  <", text.index(f"<{piece}")) if piece != "filterref" else -1
    without = text[:start] + (text[text.index("</owner>") + 8 :] if piece == "owner" else text[end:])
    if piece == "filterref":
        without = text[:start] + "</filterbinding>"
    with pytest.raises(Invalid, match=piece):
        binding_from_xml(without)


def test_a_binding_without_owner_is_native_json_only() -> None:
    binding = Binding.model_validate({"device": "vnet0", "mac": "52:54:00:00:00:01", "filter": "f"})
    assert Binding.model_validate_json(binding.model_dump_json()) == binding
    with pytest.raises(Invalid, match="owner"):
        binding_to_xml(binding)
