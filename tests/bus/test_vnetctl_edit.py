"""Editing a document in one's own editor, until the daemon takes it."""

import re
import shlex
import sys
from pathlib import Path

import pytest
from support.fake_services import FakeServices
from support.fake_world import network_view
from support.private_bus import PrivateBus
from support.vnetctl import Done, Vnetctl

from vnetd.bus.server import BusServer


class Desk:
    """A user with an editor that does what the next of its scripts says."""

    def __init__(self, vnetctl: Vnetctl, folder: Path) -> None:
        self._vnetctl = vnetctl
        self._folder = folder
        self.seen = folder / "seen"

    async def edit(self, *edits: str, answers: str = "", words: tuple[str, ...] = ("network", "edit", "lab")) -> Done:
        """Run edit; each of ``edits`` is Python that changes ``text`` or leaves it, one after the other."""
        editor = self._folder / "my editor.py"
        editor.write_text(
            "import pathlib, sys\n"
            f"seen, edits = pathlib.Path({str(self.seen)!r}), {edits!r}\n"
            "file = pathlib.Path(sys.argv[-1])\n"
            "turn = len(seen.read_text().splitlines()) if seen.exists() else 0\n"
            "with seen.open('a') as log: log.write(f'{oct(file.stat().st_mode)} {file}\\n')\n"
            "names = {'text': file.read_text()}\n"
            "exec(edits[turn], names)\n"
            "file.write_text(names['text'])\n"
        )
        command = shlex.join([sys.executable, str(editor), "--quiet; touch pwned"])
        return await self._vnetctl(*words, stdin=answers, environment={"VISUAL": command, "TMPDIR": str(self._folder)})

    def drafts(self) -> list[Path]:
        """Files that are left."""
        return list(self._folder.glob("vnetctl-*"))


@pytest.fixture
def desk(bus: PrivateBus, server: BusServer, services: FakeServices, tmp_path: Path) -> Desk:
    """The network lab is there to be edited."""
    services.world.add("network", network_view("lab"))
    return Desk(Vnetctl(bus.address), tmp_path)


def defined(services: FakeServices) -> list[str]:
    return [call[2] for call in services.world.calls if call[0] == "define"]


async def test_what_the_editor_leaves_is_defined(desk: Desk, services: FakeServices) -> None:
    done = await desk.edit('text = \'{"name": "lab2"}\'')
    assert (done.code, done.out, done.err) == (0, "network lab changed\n", "")
    assert defined(services) == ['{"name": "lab2"}']
    assert ("describe", "xml", {"inactive": True}) in [(c[0], *c[2:]) for c in services.world.calls]
    assert desk.drafts() == []


async def test_the_draft_is_its_users_alone_and_no_shell_sees_the_editor(desk: Desk, tmp_path: Path) -> None:
    await desk.edit("pass")
    mode, name = desk.seen.read_text().split(maxsplit=1)
    assert mode == "0o100600"
    assert name.strip().endswith(".xml")
    assert not (tmp_path / "pwned").exists() and not Path("pwned").exists()


async def test_an_unchanged_document_is_not_defined(desk: Desk, services: FakeServices) -> None:
    done = await desk.edit("pass")
    assert (done.code, done.out) == (0, "network lab left as it was\n")
    assert defined(services) == []
    assert desk.drafts() == []


async def test_what_is_refused_can_be_edited_again(desk: Desk, services: FakeServices) -> None:
    done = await desk.edit("text = 'no document'", 'text = \'{"name": "lab2"}\'', answers="y\n")
    assert done.code == 0
    assert "error: " in done.err and "Edit again?" in done.err
    assert defined(services) == ["no document", '{"name": "lab2"}']
    assert desk.drafts() == []


@pytest.mark.parametrize("answers", ["n\n", ""])
async def test_who_gives_up_finds_the_text_where_the_error_says(desk: Desk, answers: str) -> None:
    done = await desk.edit("text = 'hours of work'", answers=answers)
    assert done.code == 1
    kept = re.search(r"error: [^\n]*\(your text is kept in (.*)\)$", done.err, re.MULTILINE)
    assert kept and Path(kept[1]).read_text() == "hours of work"


async def test_an_editor_that_fails_changes_nothing(desk: Desk, services: FakeServices) -> None:
    done = await desk.edit("raise SystemExit(3)")
    assert done.code == 1
    assert "ended with status 3" in done.err
    assert defined(services) == []
    assert desk.drafts() == []


async def test_an_editor_that_is_not_there_is_named(desk: Desk, bus: PrivateBus) -> None:
    environment = {"VISUAL": "/nonexistent/editor -f"}
    done = await Vnetctl(bus.address)("network", "edit", "lab", environment=environment)
    assert (done.code, done.err) == (
        1,
        "error: cannot run the editor '/nonexistent/editor': No such file or directory\n",
    )


async def test_a_filter_is_edited_in_native_json(desk: Desk, services: FakeServices) -> None:
    await desk._vnetctl.ok("filter", "define", "-", stdin='{"name": "block"}')
    words = ("filter", "edit", "block", "--format", "json")
    done = await desk.edit('text = \'{"name": "block", "rules": []}\'', words=words)
    assert (done.code, done.out) == (0, "filter block changed\n")
    assert desk.seen.read_text().strip().endswith(".json")
