"""Raw dnsmasq options of a network: harmless ones pass as they are, all others are refused with the reason."""

import re
import shutil
import subprocess

import pytest

from vnetd.dnsmasq.options import ALLOWED, raw_option
from vnetd.model.errors import Invalid, Unsupported


@pytest.mark.parametrize(
    "line",
    [
        "cache-size=500",
        "log-queries",
        "address=/ads.example/0.0.0.0",
        "server=/corp.example/10.1.1.1",
        "dhcp-option=option:ntp-server,10.0.0.1",
        'txt-record=t,"a, b # c"',
        "dhcp-match=set:efi64,option:client-arch,7",
        'pxe-service=tag:x,x86PC,"Install",pxelinux',
        "host-record=a.example,10.0.0.5,fd00::5,60",
    ],
)
def test_harmless_options_pass_unchanged(line: str) -> None:
    assert raw_option(line) == line


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("dhcp-script=/tmp/x", "runs a program"),
        ("conf-script=/tmp/x", "runs a program"),
        ("dhcp-luascript=/tmp/x", "runs a program"),
        ("conf-file=/tmp/x", "files"),
        ("conf-dir=/tmp", "files"),
        ("addn-hosts=/etc/shadow", "files"),
        ("log-facility=/etc/passwd", "files"),
        ("dumpfile=/tmp/x", "files"),
        ("enable-tftp", "tftp_root"),
        ("tftp-root=/", "tftp_root"),
        ("user=root", "sets it itself"),
        ("pid-file=/tmp/x", "sets it itself"),
        ("dhcp-leasefile=/tmp/x", "sets it itself"),
        ("interface=eth0", "elsewhere"),
        ("listen-address=0.0.0.0", "elsewhere"),
        ("port=53", "elsewhere"),
        ("auth-server=x,eth0", "elsewhere"),
        ("dhcp-relay=10.0.0.1,10.9.9.9", "elsewhere"),
        ("server=8.8.8.8@eth0", "elsewhere"),
        ("rev-server=10.0.0.0/8,8.8.8.8@eth0", "elsewhere"),
        ("nftset=/x/4#inet#vnetd#s", "packet filter"),
        ("enable-dbus", "bus"),
        ("option-of-a-later-dnsmasq=1", "not among"),
        ("LOG-QUERIES", "not among"),
    ],
)
def test_options_that_reach_beyond_the_network_are_refused_with_the_reason(line: str, reason: str) -> None:
    name = line.partition("=")[0]
    with pytest.raises(Unsupported, match=f"'{name}'.*{reason}"):
        raw_option(line)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "# a comment",
        "=x",
        '"conf-file"=/etc/x',
        "cache size=5",
        'txt-record=t,"open',
        'txt-record=t,"a\\"',
        "cache-size=999999999999",
        "cache-size=-1",
        "dns-forward-max=many",
        "log-queries\nconf-file=/x",
        "log-queries\rconf-file=/x",
        "txt-record=t," + "x" * 1011 + "conf-script=/bin/sh",
        "txt-record=t,\ud800",
    ],
)
def test_what_is_no_single_well_formed_option_is_refused(line: str) -> None:
    with pytest.raises(Invalid):
        raw_option(line)


def test_every_allowed_option_is_one_that_dnsmasq_knows() -> None:
    binary = shutil.which("dnsmasq", path="/usr/sbin:/sbin:/usr/bin:/bin")
    if binary is None:
        pytest.skip("dnsmasq is not installed")
    shown = subprocess.run([binary, "--help"], capture_output=True, text=True, check=True).stdout
    known = set(re.findall(r"--([A-Za-z0-9-]+)", shown))
    newer = {
        "no-ident",
        "no-round-robin",
        "cache-rr",
        "filter-rr",
        "filter-A",
        "filter-AAAA",
        "use-stale-cache",
        "fast-dns-retry",
        "dhcp-ignore-clid",
    }
    assert not ALLOWED - newer - known
