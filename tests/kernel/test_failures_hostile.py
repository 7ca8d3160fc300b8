"""Documents and names that are broken, huge or meant to harm: refused by name, with nothing half-made."""

import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from support.client import MANAGER, NETWORK, ROOT, Refused
from support.private_bus import RawClient, method_call
from support.site import Administrator, uuid_of
from support.vnetctl import Vnetctl
from support.waiting import eventually

MEBIBYTE = 1 << 20
GOOD = {"name": "lab", "mode": "isolated", "addresses": [{"address": "192.168.77.1/24"}]}


def xml(inside: str, name: str = "lab") -> str:
    """A network in libvirt's format."""
    return f"<network><name>{name}</name>{inside}</network>"


def files_of(admin: Administrator) -> dict[str, bytes]:
    """Every file the daemon keeps, and what it holds."""
    found = {}
    for place in ("etc", "run", "var"):
        for path in sorted((admin.site.root / place).rglob("*")):
            if path.is_file():
                found[str(path.relative_to(admin.site.root))] = path.read_bytes()
    return found


def everything(admin: Administrator) -> tuple[Any, ...]:
    """What must be as before: devices, rules, processes, files."""
    return admin.site.devices(), admin.site.ruleset(), sorted(admin.site.host.pids()), files_of(admin)


async def refused(admin: Administrator, document: str, member: str = "DefineNetwork", error: str = "Invalid") -> str:
    """Have a document refused; returns the sentence."""
    before = everything(admin)
    with pytest.raises(Refused) as caught:
        await admin.call(ROOT, MANAGER, member, "sa{sv}", document, {})
    assert caught.value.name == f"org.vnetd1.Error.{error}", str(caught.value)
    assert everything(admin) == before
    assert await admin.networks() == {}
    sentence = str(caught.value)
    assert "Traceback" not in sentence and "\n" not in sentence and len(sentence) < 2000
    return sentence


LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
HOSTILE = {
    "empty": "",
    "blank": " \n ",
    "not closed": "<network><name>lab</name>",
    "two roots": "<network><name>a</name></network><network><name>b</name></network>",
    "no root": "just words",
    "wrong root": "<domain><name>lab</name></domain>",
    "doctype": "<!DOCTYPE network>" + xml(""),
    "external entity": '<!DOCTYPE n [<!ENTITY x SYSTEM "file:///etc/shadow">]>' + xml("", "&x;"),
    "external dtd": '<!DOCTYPE n SYSTEM "http://127.0.0.1:1/evil.dtd">' + xml(""),
    "billion laughs": f'<!DOCTYPE n [<!ENTITY l0 "ha">{LAUGHS}]>' + xml("", "&l9;"),
    "undefined entity": xml("", "&nbsp;"),
    "deeply nested": "<network>" + "<a>" * 100_000,
    "deeply nested and closed": xml("<a>" * 50_000 + "</a>" * 50_000),
    "a hundred thousand attributes": "<network " + " ".join(f"a{n}='1'" for n in range(60_000)) + "/>",
    "duplicate attribute": "<network a='1' a='2'/>",
    "unknown element": xml("<invented/>"),
    "unknown attribute": xml("<bridge invented='1'/>"),
    "wrong encoding": '<?xml version="1.0" encoding="utf-16"?>' + xml(""),
    "control character": xml("", "a\x08b"),
    "control character by reference": xml("", "a&#8;b"),
    "not a number": xml("<mtu size='many'/>"),
    "huge number": xml(f"<mtu size='{'9' * 5000}'/>"),
    "processing instruction": "<?xml-stylesheet href='x'?><?php system('id') ?><network/>",
    "json that is cut off": '{"name": "lab"',
    "json of another type": "[1, 2]",
    "json nested deeply": "[" * 100_000,
    "json object nested deeply": '{"name":' * 50_000 + "1",
    "json with a key twice": '{"name": "lab", "name": "other"}',
    "json with no numbers": '{"name": "lab", "mtu": NaN}',
    "json with huge numbers": '{"name": "lab", "mtu": ' + "9" * 10_000 + "}",
    "json with a float": '{"name": "lab", "mtu": 1500.5}',
    "json with unknown fields": '{"name": "lab", "invented": 1}',
    "json of wrong types": '{"name": ["lab"], "addresses": {"a": 1}}',
    "json with half a character": '{"name": "lab\\ud800"}',
    "json with bytes order mark": "\ufeff" + json.dumps({"name": 1}),
}


@pytest.mark.parametrize("what", HOSTILE)
async def test_a_hostile_document_is_refused_and_changes_nothing(admin: Administrator, what: str) -> None:
    await refused(admin, HOSTILE[what])


async def test_a_document_larger_than_a_mebibyte_is_refused_and_one_that_is_as_large_is_not(
    admin: Administrator,
) -> None:
    filler = "<!--" + "x" * (MEBIBYTE - len(xml("<!---->"))) + "-->"
    assert len(xml(filler)) == MEBIBYTE
    assert "1048576" in await refused(admin, xml(filler + " "))
    json_filler = json.dumps(GOOD) + " " * MEBIBYTE
    assert "1048576" in await refused(admin, json_filler)
    await refused(admin, "é" * (MEBIBYTE // 2 + 1))
    assert await admin.define_network(xml(filler))


@pytest.mark.parametrize("member", ["CreateNetwork", "Plan", "DefineFilter"])
async def test_other_methods_refuse_hostile_documents_alike(admin: Administrator, member: str) -> None:
    for what in ("billion laughs", "external entity", "deeply nested", "not closed", "json nested deeply"):
        await refused(admin, HOSTILE[what], member)


async def test_text_that_is_no_utf8_ends_at_the_bus_and_not_in_the_daemon(admin: Administrator) -> None:
    rude = RawClient(admin.site.bus)
    data = rude.encode(method_call(ROOT, MANAGER, "DefineNetwork", "sa{sv}", "BROKEN", {}))
    rude.socket.sendall(data.replace(b"BROKEN", b"\xff\xfe\xc0\x80\xed\xa0"))
    with pytest.raises((EOFError, ConnectionError)):
        while True:
            rude.receive()
    rude.close()
    assert await admin.networks() == {}


NAMES = [
    "",
    "a/b",
    "../../etc/passwd",
    "..",
    ".",
    ".hidden",
    "a\nb",
    "a\tb",
    "x" * 201,
    "é" * 101,
    "a\x7fb",
    "a\u0000b",
]
STRANGE = [
    "it's",
    'a "quote"',
    "$(reboot)",
    "`id`",
    "a b",
    "-rf",
    "%s%n",
    "a;b",
    "&amp;",
    "naïve",
    "名前",
    "a\\b",
    "*",
    "~",
]


@pytest.mark.parametrize("name", NAMES)
async def test_a_name_that_could_be_a_path_or_a_line_is_refused(admin: Administrator, name: str) -> None:
    await refused(admin, json.dumps({**GOOD, "name": name}))
    await refused(admin, json.dumps({"name": name, "entries": []}), "DefineFilter")


async def test_strange_but_lawful_names_are_only_names(admin: Administrator) -> None:
    paths = {}
    for number, name in enumerate(STRANGE):
        subnet = {"addresses": [{"address": f"10.70.{number}.1/24"}]}
        paths[name] = await admin.raise_network(json.dumps({**GOOD, **subnet, "name": name}))
    kept = {path.name for path in (admin.site.root / "etc/vnetd/networks").iterdir()}
    assert kept == {f"{name}.json" for name in STRANGE}
    listed = admin.site.host.run("nft", "list", "ruleset")
    assert not [name for name in STRANGE if len(name) > 1 and name in listed]
    admin.site.daemon.kill()
    admin.site.daemon.start()
    for name, path in paths.items():
        assert await admin.get(path, NETWORK, "Name") == name
        assert await admin.state(path) == "active"
        assert await admin.call(ROOT, MANAGER, "GetNetwork", "s", name) == path


def ranges(*pairs: tuple[str, str], address: str = "192.168.77.1/24") -> dict[str, Any]:
    """A network with DHCP ranges."""
    return {**GOOD, "addresses": [{"address": address, "dhcp": {"ranges": [{"start": a, "end": b} for a, b in pairs]}}]}


UNREASONABLE: dict[str, tuple[dict[str, Any], str]] = {
    "overlapping ranges": (
        ranges(("192.168.77.10", "192.168.77.50"), ("192.168.77.40", "192.168.77.60")),
        "192.168.77.40",
    ),
    "a range twice": (ranges(*[("192.168.77.10", "192.168.77.50")] * 2), "192.168.77.10"),
    "a range outside": (ranges(("192.168.78.10", "192.168.78.50")), "192.168.78.10"),
    "a range half outside": (ranges(("192.168.77.200", "192.168.78.5")), "192.168.78.5"),
    "a range backwards": (ranges(("192.168.77.50", "192.168.77.10")), "192.168.77"),
    "a range with the broadcast address": (ranges(("192.168.77.50", "192.168.77.255")), "192.168.77.255"),
    "an IPv6 range outside": (ranges(("fd78::1", "fd78::9"), address="fd77::1/64"), "fd78::"),
    "a range of mixed families": (ranges(("192.168.77.50", "fd77::9")), "range"),
    "one subnet twice": ({**GOOD, "addresses": [{"address": "10.0.0.1/24"}, {"address": "10.0.0.2/24"}]}, "10.0.0"),
    "subnets that overlap": ({**GOOD, "addresses": [{"address": "10.0.0.1/24"}, {"address": "10.0.1.1/16"}]}, "10.0"),
    "a multicast address": ({**GOOD, "addresses": [{"address": "224.0.0.1/24"}]}, "224.0.0.1"),
    "no prefix": ({**GOOD, "addresses": [{"address": "10.0.0.1"}]}, "prefix"),
    "a gateway outside": ({**GOOD, "routes": [{"destination": "10.9.0.0/16", "gateway": "10.8.0.1"}]}, "10.8.0.1"),
    "a bridge name too long": ({**GOOD, "bridge": {"name": "sixteen-bytes-xx"}}, "sixteen-bytes-xx"),
    "a bridge name that is a path": ({**GOOD, "bridge": {"name": "../../x"}}, "x"),
    "an MTU too small": ({**GOOD, "mtu": 67}, "mtu"),
    "a multicast MAC": ({**GOOD, "mac": "01:00:00:00:00:01"}, "01:00:00:00:00:01"),
    "a mode nobody knows": ({**GOOD, "mode": "magic"}, "mode"),
}


@pytest.mark.parametrize("what", UNREASONABLE)
async def test_what_cannot_work_is_refused_with_the_value_that_is_wrong(admin: Administrator, what: str) -> None:
    document, value = UNREASONABLE[what]
    assert value in await refused(admin, json.dumps(document))


PROGRAMS = ["conf-script=/bin/sh", "dhcp-script=/bin/sh", "dhcp-luascript=/x.lua", "script-arp", "user=root"]
PROGRAMS += ["conf-file=/etc/shadow", "conf-dir=/etc", "addn-hosts=/etc/shadow", "log-facility=/etc/passwd"]
PROGRAMS += ["dhcp-hostsdir=/etc", "resolv-file=/etc/shadow", "pid-file=/etc/passwd", "dumpfile=/etc/x", "port=5353"]
PROGRAMS += ["interface=uplink0", "listen-address=0.0.0.0", "enable-tftp", "no-daemon", "invented"]
PROGRAMS += ["log-queries\nconf-script=/bin/sh", "-C/etc/shadow"]


@pytest.mark.parametrize("option", PROGRAMS)
async def test_an_option_of_dnsmasq_that_reaches_beyond_its_network_is_refused(
    admin: Administrator, option: str
) -> None:
    before = everything(admin)
    document = json.dumps({**GOOD, "dnsmasq_options": [option]})
    with pytest.raises(Refused, match=r"Error\.(Unsupported|Invalid)") as caught:
        await admin.call(ROOT, MANAGER, "DefineNetwork", "sa{sv}", document, {})
    assert re.split(r"[=\n/]", option)[0].lstrip("-") in str(caught.value)
    assert everything(admin) == before


@pytest.fixture
def canary() -> Iterator[Path]:
    """A file that appears if anything a client sent was run; its name is free of slashes."""
    path = Path.cwd() / "vnetd-canary"
    path.unlink(missing_ok=True)
    yield path
    assert not path.exists(), "something a client sent was run"


PIECES = [*"\n\r\0\t ,#\"'\\/=@%*;|`)&<>é", "..", "$(", "a", "0", "dhcp-script=", "\nconf-script=touch vnetd-canary"]
PIECES += ["$(touch vnetd-canary)", "; touch vnetd-canary;"]
hostile = st.lists(st.sampled_from(PIECES) | st.text(max_size=2), min_size=1, max_size=5).map("".join)


RANGE = {"start": "192.168.77.10", "end": "192.168.77.99"}


def with_dhcp(**fields: Any) -> dict[str, Any]:
    """A network with DHCP and more of it."""
    return {"addresses": [{"address": "192.168.77.1/24", "dhcp": {"ranges": [RANGE], **fields}}]}


def with_service(text: str) -> dict[str, Any]:
    """A network with an SRV record."""
    return {"dns": {"services": [{"service": text, "protocol": "tcp", "target": text, "port": 1}]}}


FIELDS: dict[str, tuple[Callable[[str], dict[str, Any]], str]] = {
    "host": (lambda text: with_dhcp(hosts=[{"mac": "52:54:00:00:00:01", "name": text, "address": "192.168.77.5"}]), ""),
    "id": (lambda text: with_dhcp(hosts=[{"id": text, "name": "web", "address": "192.168.77.5"}]), ""),
    "boot": (lambda text: with_dhcp(bootp={"file": text, "server": "192.168.77.1"}), "dhcp-boot"),
    "tftp": (lambda text: {"addresses": [{"address": "192.168.77.1/24", "tftp_root": text}]}, "enable-tftp tftp-root"),
    "domain": (lambda text: {"domain": {"name": text}}, "domain local expand-hosts"),
    "txt name": (lambda text: {"dns": {"texts": [{"name": text, "value": "v"}]}}, "txt-record"),
    "txt value": (lambda text: {"dns": {"texts": [{"name": "n", "value": text}]}}, "txt-record"),
    "dns host": (lambda text: {"dns": {"hosts": [{"address": "192.168.77.7", "hostnames": [text]}]}}, ""),
    "service": (with_service, "srv-host"),
    "forwarder": (lambda text: {"dns": {"forwarders": [{"domain": text, "address": "192.0.2.1"}]}}, ""),
    "option": (lambda text: {"dnsmasq_options": [text]}, "OPTION"),
    "name": (lambda text: {"name": text}, ""),
    "title": (lambda text: {"title": text}, ""),
    "description": (lambda text: {"description": text}, ""),
}
"""Where a text goes in a document, and what dnsmasq is told because of it."""


def document_with(field: str, text: str) -> dict[str, Any]:
    """A network with a text in one field."""
    return {"name": "lab", "mode": "isolated", **with_dhcp(), **FIELDS[field][0](text)}


def lines_of(admin: Administrator, network: str) -> list[str]:
    """Lines of dnsmasq's configuration, without what names this run's directories."""
    text = admin.site.runtime_file(network, "conf").read_text()
    return [line.replace(uuid_of(network), "UUID") for line in text.split("\n") if line and not line.startswith("#")]


def options(lines: list[str]) -> set[str]:
    """What the lines set."""
    return {line.partition("=")[0].strip() for line in lines}


async def test_no_text_of_a_client_makes_a_line_of_dnsmasq_that_was_not_meant(
    admin: Administrator, canary: Path
) -> None:
    plain = await admin.raise_network(document_with("title", "plain"))
    usual = options(lines_of(admin, plain))
    await admin.stop(plain)
    await admin.call(plain, NETWORK, "Undefine")
    texts: list[tuple[str, str]] = []

    @settings(max_examples=140, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(st.sampled_from(sorted(FIELDS)), hostile)
    def collect(field: str, text: str) -> None:
        texts.append((field, text))

    collect()
    started = 0
    for field, text in [*texts, *((field, "/tmp" if field == "tftp" else "plain") for field in FIELDS)]:
        document = document_with(field, text)
        try:
            network = await admin.define_network(json.dumps(document))
            await admin.start(network)
        except Refused as refusal:
            # What only dnsmasq itself can judge: whether a directory is there, the value of a raw option.
            kinds = "Invalid|Unsupported" + ("|Host" if field in {"tftp", "option"} else "")
            assert re.fullmatch(rf"org\.vnetd1\.Error\.({kinds})", refusal.name), (document, str(refusal))
            for one in (await admin.networks()).values():
                await admin.call(one["path"], NETWORK, "Undefine")
            continue
        started += 1
        lines = lines_of(admin, network)
        meant = set(FIELDS[field][1].replace("OPTION", text.partition("=")[0].strip()).split())
        assert options(lines) <= usual | meant, (field, text, lines)
        assert len(lines) <= len(usual) + 6, (field, text, lines)
        await admin.stop(network)
        await admin.call(network, NETWORK, "Undefine")
    assert started >= len(FIELDS) - 2  # "plain" is neither an option nor an identifier
    kept = {path for path in files_of(admin) if "/networks/" in path or "/dnsmasq/" in path}
    assert not kept
    assert admin.site.daemon.alive()


async def test_nothing_is_written_outside_the_daemons_directories(admin: Administrator) -> None:
    top = {path for path in admin.site.root.rglob("*") if path.is_dir()}
    for name in ("..", "../x", "a/../../b", "/etc/x", "lab/../../../../tmp/x"):
        for document in ({**GOOD, "name": name}, {**GOOD, "uuid": name}, {**GOOD, "bridge": {"name": name}}):
            await refused(admin, json.dumps(document))
    for ref in ("../../etc/passwd", "/", "..", "a\nb", "x" * 100_000):
        with pytest.raises(Refused, match=r"Error\.NotFound"):
            await admin.call(ROOT, MANAGER, "GetNetwork", "s", ref)
        with pytest.raises(Refused, match=r"Error\.NotFound"):
            await admin.call(ROOT, MANAGER, "GetPort", "s", ref)
        with pytest.raises(Refused, match=r"Error\.(NotFound|Invalid)"):
            await admin.call(ROOT, MANAGER, "BindFilter", "ssa{sv}", ref, "clean-traffic", {})
    assert {path for path in admin.site.root.rglob("*") if path.is_dir()} - top <= {
        admin.site.root / place for place in ("etc", "etc/vnetd", "etc/vnetd/networks")
    }


async def test_the_command_line_says_why_in_one_line_and_by_its_exit_status(
    admin: Administrator, tmp_path: Path
) -> None:
    vnetctl = Vnetctl(admin.site.bus.address)
    bad, big = tmp_path / "bad.xml", tmp_path / "big.xml"
    bad.write_text(HOSTILE["billion laughs"])
    big.write_text(xml("<!--" + "x" * MEBIBYTE + "-->"))
    cases = {
        ("network", "define", str(bad)): 1,
        ("network", "define", str(big)): 1,
        ("network", "define", str(tmp_path / "no-such")): 1,
        ("network", "define"): 2,
        ("network", "invent"): 2,
        ("network", "start", "no-such"): 3,
        ("network", "show", "../../etc/passwd"): 3,
        ("port", "detach", "no-such"): 3,
    }
    for words, code in cases.items():
        done = await vnetctl(*words)
        assert (done.code, done.out) == (code, ""), (words, done)
        assert "error: " in done.err and "Traceback" not in done.err
        assert code == 2 or done.err.count("\n") == 1
    done = await vnetctl("network", "define", "-", stdin=json.dumps(GOOD), user=65534)
    assert (done.code, done.err.startswith("error: ")) == (4, True), done
    done = await vnetctl("network", "list", environment={"VNETD_BUS": f"unix:path={tmp_path}/nobody"})
    assert (done.code, done.err.startswith("error: ")) == (5, True)
    done = await vnetctl("network", "define", "-", stdin=json.dumps(GOOD))
    assert done.code == 0
    assert await admin.networks()


async def test_a_flood_of_rubbish_does_not_keep_others_waiting(admin: Administrator) -> None:
    rude = RawClient(admin.site.bus)
    heavy = xml("<a>" * 20_000)
    for _ in range(200):
        rude.send(method_call(ROOT, MANAGER, "DefineNetwork", "sa{sv}", heavy, {}))
    network = await admin.raise_network(GOOD)
    assert await admin.state(network) == "active"
    rude.close()
    await eventually(lambda: admin.site.daemon.alive(), "it lives")
    assert os.path.exists(f"/proc/{admin.site.daemon.pid}")
