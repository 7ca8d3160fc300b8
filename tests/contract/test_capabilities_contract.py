"""What every ``host.Capabilities`` does: the same statements about that in memory and the real one."""

import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.memory_capabilities import MemoryCapabilities

from vnetd.host.protocols import Capabilities
from vnetd.host.requirements import able, explained, require
from vnetd.linux import capabilities as probes
from vnetd.linux.capabilities import LinuxCapabilities
from vnetd.linux.nft import LinuxNft
from vnetd.model.capability import ABILITIES
from vnetd.model.errors import Unsupported


@pytest.fixture
async def linux() -> AsyncIterator[LinuxCapabilities]:
    nft = LinuxNft()
    await nft.open()
    yield LinuxCapabilities(nft.exclusively)
    await nft.close()


@pytest.fixture(params=["memory", pytest.param("linux", marks=pytest.mark.kernel)])
def capabilities(request: pytest.FixtureRequest) -> Capabilities:
    return MemoryCapabilities() if request.param == "memory" else request.getfixturevalue("linux")


async def test_every_ability_is_told_and_each_no_has_a_reason(capabilities: Capabilities) -> None:
    found = await capabilities.all()
    assert [capability.name for capability in found] == list(ABILITIES)
    assert not [capability for capability in found if not capability.ok and not capability.reason]
    assert await able(capabilities, "bridge") and await able(capabilities, "veth")


async def test_the_second_question_costs_nothing(capabilities: Capabilities) -> None:
    assert await capabilities.all() is await capabilities.all()
    before = await capabilities.all()
    capabilities.forget()
    assert await capabilities.all() is not before
    assert await capabilities.all() == before


async def test_what_the_host_lacks_is_refused_with_its_reason() -> None:
    host = MemoryCapabilities()
    host.lacking["bridge-vlan-filtering"] = "this kernel says: no"
    await require(host, "switch trunk", "bridge", "veth")
    with pytest.raises(Unsupported, match=r"^switch trunk needs VLAN filtering on bridges, .* this kernel says: no$"):
        await require(host, "switch trunk", "bridge", "bridge-vlan-filtering")
    assert not await able(host, "bridge-vlan-filtering")


async def test_a_no_is_asked_for_anew_before_it_counts() -> None:
    host = MemoryCapabilities()
    host.lacking["passt"] = "it is not installed: install it (package passt)"
    with pytest.raises(Unsupported, match=r"^a port needs the program passt.*\(package passt\); use another mode$"):
        await require(host, "a port", "passt", instead="use another mode")
    del host.lacking["passt"]
    await require(host, "a port", "passt")


async def test_a_refusal_is_explained_by_what_lacks_and_else_left_as_it_is() -> None:
    host = MemoryCapabilities()
    with pytest.raises(Unsupported, match=r"^no such program$"):
        async with explained(host, "network lab", "dnsmasq"):
            raise Unsupported("no such program")
    host.lacking["dnsmasq"] = "it is not installed"
    host.forget()
    refused = Unsupported("no such program")
    refused.add_note("and cleaning up failed")
    with pytest.raises(Unsupported, match=r"^network lab needs the program dnsmasq.*: it is not installed") as told:
        async with explained(host, "network lab", "dnsmasq"):
            raise refused
    assert told.value.__notes__ == ["and cleaning up failed"]


@pytest.mark.kernel
async def test_probing_leaves_nothing_behind(linux: LinuxCapabilities) -> None:
    before, fds = _namespace(), _descriptors()
    await linux.all()
    assert _namespace() == before
    assert _descriptors() == fds


@pytest.mark.kernel
async def test_the_answers_are_those_of_the_kernel(linux: LinuxCapabilities) -> None:
    """Each asked once more in another way: with iproute2 and nft, in this test's own namespace."""
    found = {capability.name: capability.ok for capability in await linux.all()}
    assert found["vlan"] == _does(
        "ip link add vtest type veth peer name vpeer", "ip link add v2 link vtest type vlan id 2"
    )
    assert found["bridge-vlan-filtering"] == _does("ip link add b0 type bridge vlan_filtering 1")
    assert found["macvtap"] == _does("ip link add m0 link vtest type macvtap mode bridge")
    assert found["ipvlan"] == _does("ip link add i0 link vpeer type ipvlan mode l2")
    assert found["tc-fq_codel"] == _does("tc qdisc add dev vtest root fq_codel")
    assert found["tc-police"] == _does(
        "tc qdisc add dev vpeer ingress",
        "tc filter add dev vpeer ingress protocol all u32 match u32 0 0 action police rate 1mbit burst 10k drop",
    )
    rule = "nft add rule bridge t c ct state established accept"
    assert found["nft-bridge-conntrack"] == _does(
        "nft add table bridge t", "nft add chain bridge t c { type filter hook prerouting priority 0 ; }", rule
    )
    hook = "nft add chain netdev t c { type filter hook egress device lo priority 0 ; }"
    assert found["nft-netdev-egress"] == _does("nft add table netdev t", hook)


@pytest.mark.kernel
async def test_a_program_that_is_missing_or_does_not_run_is_a_no(
    linux: LinuxCapabilities, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probes, "SEARCH", str(tmp_path))
    found = {capability.name: capability for capability in await linux.all()}
    assert not found["dnsmasq"].ok and "not installed" in found["dnsmasq"].reason
    assert not found["passt"].ok and "not installed" in found["passt"].reason
    shutil.copy("/bin/false", tmp_path / "dnsmasq")
    linux.forget()
    found = {capability.name: capability for capability in await linux.all()}
    assert not found["dnsmasq"].ok and found["dnsmasq"].reason.endswith("dnsmasq does not run")
    (tmp_path / "dnsmasq").write_text(
        "#!/bin/sh\necho 'Dnsmasq version 9.9  Copyright'\necho 'Compile time options: IPv6 DHCP no-DHCPv6 TFTP'\n"
    )
    linux.forget()
    found = {capability.name: capability for capability in await linux.all()}
    assert (found["dnsmasq"].ok, found["dnsmasq-dhcpv6"].ok, found["dnsmasq-tftp"].ok) == (True, False, True)
    assert found["dnsmasq"].reason == f"9.9 at {tmp_path}/dnsmasq"


@pytest.mark.kernel
async def test_a_host_where_no_namespace_can_be_made_says_so(
    linux: LinuxCapabilities, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(probes, "_unshare", refuse)
    found = {capability.name: capability for capability in await linux.all()}
    assert not found["veth"].ok and "could not be tried" in found["veth"].reason
    assert found["dnsmasq"].ok


def _does(*commands: str) -> bool:
    done = [subprocess.run(command.split(), capture_output=True, check=False).returncode for command in commands]
    return done[-1] == 0


def _namespace() -> list[str]:
    links = subprocess.run(["ip", "-j", "link"], capture_output=True, check=True, text=True).stdout
    tables = subprocess.run(["nft", "list", "ruleset"], capture_output=True, check=True, text=True).stdout
    return [*sorted(link["ifname"] for link in json.loads(links)), tables]


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))
