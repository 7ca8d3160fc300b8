"""What every ``host.Store`` does: the same statements about the one in memory and the one on disk."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.memory_store import MemoryStore

from vnetd.host.protocols import Store
from vnetd.linux.store import FileStore
from vnetd.model.errors import Invalid

DOCUMENT = {"name": "lab", "addresses": ["192.168.77.1/24"], "mtu": None, "nested": {"grün": [1, 2.5, True]}}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
Spoil = Callable[[str, str], None]


@pytest.fixture(params=["memory", "files", "files on tmpfs"])
async def both(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[Store, Spoil]]:
    """A store, and a way to put text that is no JSON in the place of a document."""
    if request.param == "memory":
        memory = MemoryStore()
        yield memory, lambda kind, name: memory.files.setdefault(kind, {}).update({name: '{"name": '})
        return
    with TemporaryDirectory(dir="/dev/shm" if request.param == "files on tmpfs" else tmp_path) as root:
        files = FileStore(Path(root))
        directories = {"etc/networks": Path(root) / "etc/vnetd/networks"}
        yield files, lambda kind, name: _spoil(directories[kind] / f"{name}.json")
        await files.close()


def _spoil(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('{"name": ')


@pytest.fixture
def store(both: tuple[Store, Spoil]) -> Store:
    return both[0]


@pytest.fixture
def spoil(both: tuple[Store, Spoil]) -> Spoil:
    return both[1]


async def test_nothing_was_stored_yet(store: Store) -> None:
    assert await store.load("etc/networks") == {}
    assert await store.broken("etc/networks") == frozenset()


async def test_what_was_saved_is_loaded(store: Store) -> None:
    await store.save("etc/networks", "lab", DOCUMENT)
    await store.save("run/networks", "lab", [1])
    await store.save("var/ids", "bridges", {"virbr0": "x"})
    assert await store.load("etc/networks") == {"lab": DOCUMENT}
    assert await store.load("run/networks") == {"lab": [1]}
    assert await store.load("var/ids") == {"bridges": {"virbr0": "x"}}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=30)
@given(document=JSON)
async def test_every_json_value_comes_back(store: Store, document: object) -> None:
    await store.save("etc/networks", "any", document)
    assert (await store.load("etc/networks"))["any"] == document


async def test_the_last_write_counts(store: Store) -> None:
    await store.save("etc/networks", "lab", DOCUMENT)
    await store.save("etc/networks", "lab", {})
    assert await store.load("etc/networks") == {"lab": {}}


async def test_a_deleted_document_is_gone_and_may_be_deleted_again(store: Store) -> None:
    await store.delete("etc/networks", "lab")
    await store.save("etc/networks", "lab", DOCUMENT)
    await store.save("etc/networks", "other", DOCUMENT)
    await store.delete("etc/networks", "lab")
    await store.delete("etc/networks", "lab")
    assert await store.load("etc/networks") == {"other": DOCUMENT}


@pytest.mark.parametrize("name", ["lab 1", "größe", "a.b", "x" * 200, "-rf", "lab.json", "lab.broken", "%s"])
async def test_every_plain_file_name_may_be_used(store: Store, name: str) -> None:
    await store.save("etc/networks", name, DOCUMENT)
    assert await store.load("etc/networks") == {name: DOCUMENT}


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "a/b", "/etc/passwd", "a\0b", "a\nb", "x" * 201, "\ud800"])
async def test_no_name_leads_anywhere_else(store: Store, name: str) -> None:
    with pytest.raises(Invalid):
        await store.save("etc/networks", name, DOCUMENT)
    with pytest.raises(Invalid):
        await store.delete("etc/networks", name)
    assert await store.load("etc/networks") == {}


@pytest.mark.parametrize("kind", ["", "etc", "etc/", "etc/..", "etc/a/b", "home/networks", "/etc/networks", "etc/A"])
async def test_no_kind_leads_anywhere_else(store: Store, kind: str) -> None:
    with pytest.raises(Invalid):
        await store.load(kind)
    with pytest.raises(Invalid):
        await store.save(kind, "lab", DOCUMENT)


async def test_a_document_that_does_not_parse_is_set_aside_and_others_are_loaded(store: Store, spoil: Spoil) -> None:
    await store.save("etc/networks", "lab", DOCUMENT)
    spoil("etc/networks", "torn")
    for _ in range(2):
        assert await store.load("etc/networks") == {"lab": DOCUMENT}
        assert await store.broken("etc/networks") == {"torn"}


async def test_a_document_written_anew_is_broken_no_more(store: Store, spoil: Spoil) -> None:
    spoil("etc/networks", "torn")
    await store.load("etc/networks")
    await store.save("etc/networks", "torn", DOCUMENT)
    assert await store.broken("etc/networks") == frozenset()
    assert await store.load("etc/networks") == {"torn": DOCUMENT}


async def test_what_json_cannot_hold_is_refused_and_changes_nothing(store: Store) -> None:
    await store.save("etc/networks", "lab", DOCUMENT)
    for impossible in (float("nan"), {1, 2}, b"bytes"):
        with pytest.raises((TypeError, ValueError)):
            await store.save("etc/networks", "lab", impossible)
    assert await store.load("etc/networks") == {"lab": DOCUMENT}


async def test_a_file_that_was_not_installed_is_empty(store: Store) -> None:
    assert await store.installed("default-network.xml") == ""
