"""Which QEMU a machine with virtual functions gets, without running one."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from support.machine import NoEmulator, prepare_card, with_card

KNOWS = "#!/bin/sh\necho 'igb options:'\n"
KNOWS_NOT = "#!/bin/sh\necho \"Device 'igb' not found\" >&2\n"
MAKES = """#!/bin/sh
for word; do root=$word; done
echo "$*" >>{calls}
mkdir -p $root/usr/lib/x86_64-linux-gnu
cp {qemu} $root/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2
"""
FAILS = "#!/bin/sh\necho 'E: no mirror answers' >&2\nexit 25\n"


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Path]:
    """Puts a program where it is found first."""
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")

    def put(name: str, text: str) -> Path:
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
        return programs / name

    return put


def test_this_hosts_own_qemu_is_used_if_it_knows_the_card(tmp_path: Path, program: Callable[[str, str], Path]) -> None:
    program("qemu-system-x86_64", KNOWS)
    program("mmdebstrap", FAILS)
    assert prepare_card(tmp_path / "cache") == with_card(tmp_path / "cache") == ("qemu-system-x86_64",)


def test_else_that_of_a_later_debian_is_unpacked_once_and_run_by_its_own_loader(
    tmp_path: Path, program: Callable[[str, str], Path]
) -> None:
    program("qemu-system-x86_64", KNOWS_NOT)
    calls = tmp_path / "calls"
    program("mmdebstrap", MAKES.format(calls=calls, qemu=program("later", KNOWS)))
    made = prepare_card(tmp_path / "cache")
    assert made == prepare_card(tmp_path / "cache") == with_card(tmp_path / "cache")
    assert len(calls.read_text().splitlines()) == 1
    root = tmp_path / "cache/qemu"
    libraries = root / "usr/lib/x86_64-linux-gnu"
    assert made[:3] == (f"{libraries}/ld-linux-x86-64.so.2", "--library-path", str(libraries))
    assert made[3] == f"{root}/usr/bin/qemu-system-x86_64"
    assert {one.name for one in (tmp_path / "cache").iterdir()} == {"qemu", "prepare.lock"}


def test_why_there_is_none_is_said_and_nothing_is_left(tmp_path: Path, program: Callable[[str, str], Path]) -> None:
    program("qemu-system-x86_64", KNOWS_NOT)
    program("mmdebstrap", FAILS)
    with pytest.raises(NoEmulator, match=r"no QEMU that emulates igb: mmdebstrap .*: E: no mirror answers"):
        prepare_card(tmp_path / "cache")
    assert {one.name for one in (tmp_path / "cache").iterdir()} == {"prepare.lock"}
    with pytest.raises(NoEmulator, match=r"no QEMU that emulates igb: ./test prepares one"):
        with_card(tmp_path / "cache")
