"""A chain that takes another's place under a flood: at no moment does a packet pass that both forbid."""

import socket
import sys
from collections.abc import AsyncIterator

import pytest
from support.netns import Lab, Namespace
from support.waiting import wait_until

from vnetd.linux.nft import LinuxNft
from vnetd.model.errors import HostError
from vnetd.plan.ledger import Ledger
from vnetd.plan.rules import EMPTY, Chain, Element, Fragment, Hook, Json, Set

UPDATES = 2000
"""One in eighty let packets pass while a chain and what leads to it came in one transaction."""
PEER, FORBIDDEN = "192.168.77.11", 9
FLOOD = """
import socket, sys
flood = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
while True:
    flood.sendto(b"forbidden", (sys.argv[1], int(sys.argv[2])))
"""
ENTRIES = Set("bridge", "entries", ("ifname",), data="verdict")
LOOK: Json = {"vmap": {"key": {"meta": {"key": "iifname"}}, "data": "@entries"}}
BASE = Chain("bridge", "base", ((LOOK,),), Hook("filter", "prerouting", -150))
PORTS = Set("bridge", "ports", ("ifname", "inet_service"))


def forbidding(name: str, device: str) -> Fragment:
    """A chain that drops what goes to the ports of a set, and what leads there."""
    what: Json = {"concat": [{"meta": {"key": "iifname"}}, {"payload": {"protocol": "udp", "field": "dport"}}]}
    ports = Set("bridge", f"ports_{name}", PORTS.key)
    drop = ({"match": {"op": "==", "left": what, "right": f"@{ports.name}"}}, {"drop": None})
    row = Element("bridge", ports.name, (device, str(FORBIDDEN)))
    entry = Element("bridge", "entries", (device,), f"goto {name}")
    return Fragment((BASE, Chain("bridge", name, (drop,))), (ENTRIES, ports), frozenset({row, entry}))


@pytest.fixture
async def nft(lab: Lab) -> AsyncIterator[tuple[LinuxNft, Namespace]]:
    host = lab.namespace("host")
    linux = LinuxNft()
    with host.entered():
        await linux.open()
    yield linux, host
    await linux.close()


def bridged(lab: Lab, host: Namespace) -> tuple[Namespace, Namespace]:
    """Two guests of one bridge, who reach each other."""
    host.run("ip", "link", "add", "br0", "type", "bridge", "forward_delay", "0")
    host.run("ip", "link", "set", "br0", "up")
    sender, listener = lab.guest(host, "br0", "sender"), lab.guest(host, "br0", "listener")
    sender.run("ip", "address", "add", "192.168.77.10/24", "dev", "eth0")
    listener.run("ip", "address", "add", f"{PEER}/24", "dev", "eth0")
    wait_until(lambda: sender.ping(PEER), "they reach each other")
    return sender, listener


async def test_no_forbidden_packet_passes_while_chains_take_each_others_place(
    nft: tuple[LinuxNft, Namespace], lab: Lab
) -> None:
    linux, host = nft
    sender, listener = bridged(lab, host)
    [device] = [port["ifname"] for port in host.ip("link", "show", "master", "br0") if port["ifname"] == sender.device]
    ledger = Ledger()

    async def become(fragment: Fragment | None) -> None:
        proposal = ledger.propose({"port": fragment})
        await linux.commit(proposal.remove, proposal.add)
        ledger.accept(proposal)

    await become(forbidding("first", device))
    with listener.entered(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as heard:
        heard.bind(("", FORBIDDEN))
        heard.setblocking(False)
        flood = sender.start(sys.executable, "-c", FLOOD, PEER, str(FORBIDDEN))
        wait_until(lambda: _sent(sender) > 1000, "the flood has begun")
        before = _sent(sender)
        for number in range(UPDATES):
            await become(forbidding(f"next{number}", device))
        assert _sent(sender) > before + UPDATES
        with pytest.raises(BlockingIOError):
            heard.recv(100)
        await become(None)
        wait_until(lambda: _arrived(heard), "it was the rules that kept them away")
        flood.kill()
        flood.wait()


async def test_a_change_the_kernel_refuses_half_way_is_none(nft: tuple[LinuxNft, Namespace]) -> None:
    linux, _ = nft
    ledger = Ledger()
    proposal = ledger.propose({"port": forbidding("first", "vnet0")})
    await linux.commit(proposal.remove, proposal.add)
    ledger.accept(proposal)
    before = await linux.table("bridge")
    proposal = ledger.propose({"port": forbidding("next", "vnet0")})
    missing = frozenset({Element("bridge", "entries", ("vnet1",), "drop")})
    remove = Fragment(proposal.remove.chains, proposal.remove.sets, proposal.remove.elements | missing)
    with pytest.raises(HostError, match="commit rules"):
        await linux.commit(remove, proposal.add)
    after = await linux.table("bridge")
    assert before and after
    assert (after.chains.keys(), after.sets) == (before.chains.keys(), before.sets)
    await linux.commit(ledger.contents(), EMPTY)


def _sent(guest: Namespace) -> int:
    return int(guest.ip("-s", "link", "show", "dev", "eth0")[0]["stats64"]["tx"]["packets"])


def _arrived(heard: socket.socket) -> bool:
    try:
        return bool(heard.recv(100))
    except BlockingIOError:
        return False
