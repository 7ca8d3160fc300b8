"""Exit codes, and reasons as one line on stderr."""

from argparse import Namespace

import pytest
from vnetctl import main as command
from vnetctl.errors import CommandError, Exit, NoAnswer, from_bus
from vnetctl.output import Output


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("org.vnetd1.Error.NotFound", 3),
        ("org.vnetd1.Error.Denied", 4),
        ("org.vnetd1.Error.Invalid", 1),
        ("org.vnetd1.Error.Exists", 1),
        ("org.vnetd1.Error.InUse", 1),
        ("org.vnetd1.Error.Busy", 1),
        ("org.vnetd1.Error.Host", 1),
        ("org.vnetd1.Error.Unsupported", 1),
        ("org.freedesktop.DBus.Error.AccessDenied", 4),
        ("org.freedesktop.DBus.Error.ServiceUnknown", 5),
        ("org.freedesktop.DBus.Error.NameHasNoOwner", 5),
        ("org.freedesktop.DBus.Error.Spawn.ChildExited", 5),
        ("org.freedesktop.DBus.Error.NoReply", 5),
        ("org.freedesktop.DBus.Error.UnknownMethod", 1),
    ],
)
def test_each_error_of_the_bus_has_its_exit_code(name: str, code: int) -> None:
    assert from_bus(name, "a sentence", "system bus").code == code


def test_the_daemons_own_sentence_is_shown() -> None:
    assert str(from_bus("org.vnetd1.Error.InUse", "subnet is taken by eth0", "system bus")) == "subnet is taken by eth0"


def ends(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> int:
    """The exit code of a command that raises ``error``."""

    def run(_: Output, __: Namespace) -> None:
        raise error

    parsed = Namespace(run=run, json=False)
    monkeypatch.setattr("vnetctl.arguments.parse", lambda _: parsed)
    return command.main([])


def test_a_reason_is_one_line_whatever_is_in_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ends(monkeypatch, CommandError("network 'a\n\x1b[2J' exists", Exit.NOT_FOUND)) == 3
    assert capsys.readouterr().err == "error: network 'a\\n\\x1b[2J' exists\n"


def test_several_reasons_are_a_line_each_and_the_first_decides(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    group = BaseExceptionGroup("some", [CommandError("one", Exit.NOT_FOUND), CommandError("two", Exit.DENIED)])
    assert ends(monkeypatch, group) == 3
    assert capsys.readouterr().err == "error: one\nerror: two\n"


def test_an_unreachable_daemon_is_5(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ends(monkeypatch, NoAnswer("gone")) == 5


def test_an_interrupt_is_quiet(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert ends(monkeypatch, KeyboardInterrupt()) == 130
    assert capsys.readouterr().err == ""


def test_a_fault_of_our_own_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ZeroDivisionError):
        ends(monkeypatch, ZeroDivisionError())
