"""Lists joined from kept pieces are, byte for byte, what encoding them whole would give."""

from dataclasses import replace

import pytest
from dbus_next.signature import Variant
from hypothesis import given
from hypothesis import strategies as st
from support.fake_services import FakeServices, one_of_each
from support.fake_world import network_view

from vnetd.bus.contracts import load_contracts
from vnetd.bus.listing import Listing
from vnetd.bus.marshalling import (
    Entries,
    encode_entries,
    encode_text_entry,
    encode_values,
    join_array,
    join_dict,
    join_entries,
)
from vnetd.bus.objects import INTERFACES, KINDS, Objects, object_path
from vnetd.bus.values import encode_plain


@given(st.lists(st.text(alphabet="abcü", max_size=20), max_size=9, unique=True))
def test_joined_pieces_equal_the_whole(names: list[str]) -> None:
    objects = Objects(FakeServices(), load_contracts())
    views = [network_view(name, problems=(name,)) for name in names]
    rows = [objects.row("network", view) for view in views]
    assert join_array(encode_entries("a{sv}", row) for row in rows) == encode_values("aa{sv}", [rows])
    managed = {object_path("network", v.uuid): {"a.b": objects.properties("network", v)} for v in views}
    pieces = (encode_entries("a{oa{sa{sv}}}", {path: content}) for path, content in managed.items())
    assert join_dict(pieces) == encode_values("a{oa{sa{sv}}}", [managed])


async def room() -> None:
    """There is always room."""


@pytest.fixture
async def services() -> FakeServices:
    made = FakeServices()
    await one_of_each(made)
    for number in range(80):  # more than one slice
        made.world.add("network", network_view(f"net{number}"))
    return made


@given(
    st.dictionaries(st.text(max_size=9), st.one_of(st.text(max_size=9), st.booleans(), st.integers(-9, 9)), max_size=9)
)
def test_entries_that_are_encoded_already_stand_for_the_dictionary(values: dict[str, object]) -> None:
    whole = encode_plain(values)
    entries = Entries(join_entries(encode_entries("a{sv}", {name: value}) for name, value in whole.items()))
    for signature, around in (("a{sv}", lambda it: [it]), ("oa{sa{sv}}", lambda it: ["/x", {"org.y": it}])):
        assert encode_values(signature, around(entries)) == encode_values(signature, around(whole))


PROPERTIES = st.from_regex("[A-Za-z_]{1,12}", fullmatch=True)
ANY_TEXT = st.text(st.one_of(st.sampled_from("\0\ud800\udfffü€"), st.characters()), max_size=20)
PATHS = st.from_regex("/|(/[A-Za-z0-9_]{1,9}){1,4}", fullmatch=True)


@given(PROPERTIES, st.one_of(st.tuples(st.just("s"), ANY_TEXT), st.tuples(st.just("o"), PATHS)))
def test_a_text_encoded_by_itself_equals_the_entry_of_a_dictionary(name: str, kind: tuple[str, str]) -> None:
    assert encode_text_entry(name, *kind) == encode_entries("a{sv}", {name: Variant(*kind)})


@pytest.mark.parametrize("text", ["", "a\0b", "\ud800", "übermäßig", "\U0001f310", "x" * 5000])
def test_an_odd_text_encoded_by_itself_does_so_too(text: str) -> None:
    for name in ("Uuid", "Name1", "Bridge"):
        assert encode_text_entry(name, "s", text) == encode_entries("a{sv}", {name: Variant("s", text)})


async def test_list_shows_what_is_now_not_what_was_kept(services: FakeServices) -> None:
    objects = Objects(services, load_contracts())
    listing = Listing(objects, room)
    await listing.warm()
    services.world.change("network", network_view("net7").uuid, state="active")
    services.world.remove("network", network_view("net8").uuid)
    services.world.add("network", replace(network_view("late"), bridge="virbr9"))
    whole = [objects.row("network", view) for view in services.networks.list()]
    assert await listing.rows("network") == encode_values("aa{sv}", [whole])


async def test_managed_objects_have_every_kind(services: FakeServices) -> None:
    objects = Objects(services, load_contracts())
    whole = {
        object_path(kind, view.uuid): {INTERFACES[kind]: objects.properties(kind, view)}
        for kind in KINDS
        for view in objects.all(kind)
    }
    assert await Listing(objects, room).managed() == encode_values("a{oa{sa{sv}}}", [whole])
