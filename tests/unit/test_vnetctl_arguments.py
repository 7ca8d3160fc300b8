"""The command line: what it takes, what it refuses, and that completion and manual know the same."""

import re
from argparse import ArgumentParser, Namespace, _SubParsersAction
from pathlib import Path

import pytest
from vnetctl.arguments import parse, parser
from vnetctl.attachment import specification
from vnetctl.errors import CommandError, Exit

TOP = Path(__file__).resolve().parents[2]


def commands(of: ArgumentParser, *before: str) -> dict[tuple[str, ...], ArgumentParser]:
    """Every command by its words."""
    for action in of._actions:
        if isinstance(action, _SubParsersAction):
            found: dict[tuple[str, ...], ArgumentParser] = {}
            for word, inner in action.choices.items():
                found |= commands(inner, *before, word)
            return found
    return {before: of}


COMMANDS = commands(parser())


def usage_error(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit) as ended:
        parse(words)
    assert ended.value.code == Exit.USAGE
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("error: ") and shown.err.count("\n") == 1
    return shown.err


def attach(*words: str) -> Namespace:
    return parse(["port", "attach", "default", *words])


def test_offers_the_verbs_of_this_version_and_no_others() -> None:
    offered: dict[str, set[str]] = {}
    for noun, *verb in COMMANDS:
        offered.setdefault(noun, set()).update(verb)
    crud = {"list", "show", "define", "undefine", "edit"}
    assert offered == {
        "network": crud | {"create", "start", "stop", "update", "autostart", "leases", "plan"},
        "switch": crud | {"create", "start", "stop", "confirm", "autostart", "plan"},
        "filter": crud | {"bind", "unbind", "bindings"},
        "port": {"list", "show", "attach", "addresses", "link", "move", "limit", "isolate", "detach"},
        **{word: set() for word in ("convert", "schema", "status", "import-libvirt", "monitor", "doctor", "reconcile")},
    }


@pytest.mark.parametrize("at", range(3))
def test_json_and_bus_can_stand_before_or_after_the_noun(at: int) -> None:
    words = ["network", "list"]
    words[at:at] = ["--json", "--bus", "session"]
    parsed = parse(words)
    assert (parsed.json, parsed.bus) == (True, "session")


def test_the_bus_is_the_environments_unless_an_option_names_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VNETD_BUS", raising=False)
    assert parse(["status"]).bus == "system"
    monkeypatch.setenv("VNETD_BUS", "unix:path=/run/other")
    assert parse(["status"]).bus == "unix:path=/run/other"
    assert parse(["--bus", "system", "status"]).bus == "system"


def test_a_bus_that_is_none_is_wrong_usage(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert "'sytem' is neither" in usage_error(capsys, "--bus", "sytem", "status")
    monkeypatch.setenv("VNETD_BUS", "sytem")
    assert "VNETD_BUS" in usage_error(capsys, "status")


@pytest.mark.parametrize(
    "line",
    [
        "",
        "network",
        "nework list",
        "network lst",
        "network show",
        "network show default --format yaml",
        "network stop",
        "network stop --all default",
        "network list --active --inactive",
        "network list --name --uuid",
        "network update default append ip-dhcp-host <host/>",
        "network update default add ip-dhcp-hosts <host/>",
        "network leases default 52:54:00",
        "network list --js",
        "filter bind vnet0",
        "filter bind vnet0 clean --parameter IP",
        "filter bind vnet0 clean --parameter =192.0.2.1",
        "convert default.xml",
        "schema switches",
        "switch start",
        "switch start office --confirm soon",
        "switch define",
        "port attach default",
        "port attach default --veth --tap tap0",
        "port attach default --tap tap0 --mac 52:54:00:00:00:0g",
        "port attach default --tap tap0 --mtu big",
        "switches list",
        "doctor vnet0 --to 192.0.2.1 --from 192.0.2.2",
    ],
)
def test_wrong_usage_is_said_in_one_line(capsys: pytest.CaptureFixture[str], line: str) -> None:
    usage_error(capsys, *line.split())


def test_wrong_usage_does_not_let_an_argument_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert "\x1b" not in usage_error(capsys, "network", "\x1b[2J\n")


def test_options_are_never_guessed_from_their_beginning(capsys: pytest.CaptureFixture[str]) -> None:
    usage_error(capsys, "network", "stop", "--al")


def test_a_mac_address_is_canonical() -> None:
    assert parse(["network", "leases", "default", "52:54:0:A:b:0C"]).mac == "52:54:00:0a:0b:0c"


def test_a_veth_goes_into_a_namespace_with_a_filter_and_lists_of_parameters() -> None:
    words = "--veth --netns web --guest-device eth1 --mac 52:54:00:00:00:07 --mtu 1400 --filter clean --parameter"
    spec = specification(
        attach(*words.split(), "IP=192.0.2.1", "--parameter", "MAC=a=b", "--parameter", "IP=192.0.2.2")
    )
    assert spec == {
        "kind": "veth",
        "netns": "web",
        "guest_device": "eth1",
        "mac": "52:54:00:00:00:07",
        "mtu": 1400,
        "filter": "clean",
        "parameter.IP": ["192.0.2.1", "192.0.2.2"],
        "parameter.MAC": ["a=b"],
    }


def test_a_namespaces_path_is_absolute_for_the_daemon(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert specification(attach("--veth", "--netns", "./ns"))["netns"] == str(tmp_path / "ns")
    assert specification(attach("--veth", "--netns", "4711"))["netns"] == "4711"


def test_a_taps_owner_and_group_are_sent_as_numbers() -> None:
    spec = specification(attach("--tap", "tap0", "--owner", "root", "--group", "12"))
    assert spec == {"kind": "tap", "device": "tap0", "owner": 0, "group": 12}


def test_what_a_port_shall_be_like_is_sent_and_nothing_of_what_was_not_said() -> None:
    inside = "--veth --netns web --address 192.0.2.7/24 --address 2001:db8::7/64 --gateway 192.0.2.1"
    spec = specification(attach(*inside.split()))
    assert spec["addresses"] == ["192.0.2.7/24", "2001:db8::7/64"] and spec["gateways"] == ["192.0.2.1"]
    tap = "--tap t --queues 4 --portgroup web --isolated --duplicate-mac --unplugged"
    assert specification(attach(*tap.split())) == {
        "kind": "tap",
        "device": "t",
        "queues": 4,
        "portgroup": "web",
        "isolated": True,
        "duplicate_mac": True,
        "link": False,
    }


def test_a_macvlan_says_what_it_lies_on() -> None:
    spec = specification(attach(*["--macvlan", "--netns", "web", "--lower", "eth7", "--guest-device", "lan0"]))
    assert spec == {"kind": "macvlan", "netns": "web", "lower": "eth7", "guest_device": "lan0"}
    assert specification(attach(*["--ipvlan", "--netns", "web"])) == {"kind": "ipvlan", "netns": "web"}


def test_a_virtual_function_says_what_its_card_shall_do_for_it() -> None:
    spec = specification(attach("--hostdev", "--spoof-check", "on", "--trust", "off"))
    assert spec == {"kind": "hostdev", "spoof_check": True, "trust": False}


def test_an_existing_device_needs_nothing_else() -> None:
    assert specification(attach("--device", "dummy0")) == {"kind": "existing", "device": "dummy0"}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("--tap tap0 --netns web", "--netns can be given with --veth or --macvlan or --ipvlan only"),
        ("--device eth7 --owner root", "--owner can be given with --tap or --macvtap or --passt only"),
        ("--veth --netns web --group 0", "--group can be given with --tap or --macvtap only"),
        ("--veth", "--veth needs --netns"),
        ("--tap tap0 --address 192.0.2.7/24", "--address can be given with --veth or --macvlan or --ipvlan only"),
        ("--ipvlan", "--ipvlan needs --netns"),
        ("--veth --netns web --lower eth7", "--lower can be given with --macvlan or --ipvlan only"),
        ("--device eth7 --queues 2", "--queues can be given with --tap only"),
        ("--tap tap0 --trust on", "--trust can be given with --hostdev only"),
        ("--tap tap0 --parameter IP=192.0.2.1", "--parameter needs --filter"),
        ("--tap tap0 --owner nobody-of-that-name", "there is no user 'nobody-of-that-name'"),
        ("--tap tap0 --group nobodies-of-that-name", "there is no group 'nobodies-of-that-name'"),
    ],
)
def test_options_of_another_kind_of_port_are_wrong_usage(line: str, reason: str) -> None:
    with pytest.raises(CommandError, match=re.escape(reason)) as refused:
        specification(attach(*line.split()))
    assert refused.value.code == Exit.USAGE


@pytest.mark.parametrize("words", COMMANDS)
def test_the_manual_describes_every_command_and_option(words: tuple[str, ...]) -> None:
    manual = (TOP / "docs/man/vnetctl.1.md").read_text().replace("\\-", "-")
    assert re.search(rf"^\*\*{' '.join(words)}\*\*", manual, re.MULTILINE)
    options = {name for action in COMMANDS[words]._actions for name in action.option_strings}
    missing = {name for name in options if not re.search(rf"\*\*{re.escape(name)}\*\*", manual)}
    assert not missing
