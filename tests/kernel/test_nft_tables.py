"""vnetd's tables on the kernel: what a commit leaves alone, who owns them, what is found after a restart."""

import asyncio
import json
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from support.abilities import missing_feature
from support.netns import run

from vnetd.linux.netlink import NETLINK_NETFILTER, RECEIVE, messages
from vnetd.linux.nft import LinuxNft
from vnetd.linux.nft_events import GROUP_NFTABLES
from vnetd.model.errors import HostError
from vnetd.model.network import Network
from vnetd.plan.ledger import Ledger, merge
from vnetd.plan.rules import EMPTY, Chain, Element, Fragment, Hook, Set
from vnetd.ruleset.network import network_fragment

ACCEPT: Any = {"accept": None}
GUESTS = Set("inet", "guests", ("ifname",))
USES_GUESTS = ({"match": {"op": "==", "left": {"meta": {"key": "iifname"}}, "right": "@guests"}}, ACCEPT)
INPUT = Chain("inet", "input", (USES_GUESTS, (ACCEPT,)), Hook("filter", "input", 0), counted=True)
CONTENTS = Fragment(
    (INPUT, Chain("bridge", "ports", ((ACCEPT,),))), (GUESTS,), frozenset({Element("inet", "guests", ("virbr0",))})
)
NEW_RULE, RULE_GONE = 6, 8  # NFT_MSG_NEWRULE, NFT_MSG_DELRULE
LATER = Fragment(elements=frozenset({Element("inet", "guests", ("virbr1",))}))


@pytest.fixture
async def nft() -> AsyncIterator[LinuxNft]:
    linux = LinuxNft()
    await linux.open()
    yield linux
    await linux.close()


@pytest.fixture
async def plain() -> AsyncIterator[LinuxNft]:
    """Tables that everybody may change."""
    linux = LinuxNft(own=False)
    await linux.open()
    yield linux
    await linux.close()


def objects(*what: str) -> list[dict[str, Any]]:
    return list(json.loads(run("nft", "-j", "list", *what).stdout)["nftables"])


def handles() -> dict[str, int]:
    return {one["chain"]["name"]: one["chain"]["handle"] for one in objects("table", "inet", "vnetd") if "chain" in one}


def nat_network(number: int) -> Fragment:
    network = Network.model_validate(
        {"name": f"net{number}", "mode": "nat", "addresses": [{"address": f"10.{number}.0.1/24"}]}
    )
    return network_fragment(network, f"virbr{number}")


async def test_a_refilled_chain_stays_the_same_chain(nft: LinuxNft) -> None:
    await nft.commit(EMPTY, CONTENTS)
    before = handles()
    await nft.commit(Fragment(chains=(INPUT,)), Fragment(chains=(Chain("inet", "input", ((ACCEPT,),), INPUT.hook),)))
    assert handles() == before
    listed = await nft.chain("inet", "input")
    assert listed is not None
    assert len(listed.chains["input"]) == 1


async def test_packets_that_are_counted_are_no_drift(nft: LinuxNft) -> None:
    ledger = Ledger()
    proposal = ledger.propose({"a": CONTENTS})
    await nft.commit(proposal.remove, proposal.add)
    ledger.accept(proposal)
    run("ping", "-c", "1", "-W", "1", "127.0.0.1")
    counters = [
        statement["counter"]["packets"]
        for one in objects("chain", "inet", "vnetd", "input")
        for statement in one.get("rule", {}).get("expr", ())
        if "counter" in statement
    ]
    assert sum(counters) > 0
    assert not ledger.drift_chain("inet", "input", await nft.chain("inet", "input"))


async def test_the_rules_of_a_network_are_not_drift_once_their_listed_form_is_learned(nft: LinuxNft) -> None:
    ledger = Ledger()
    proposal = ledger.propose({f"network:{number}": nat_network(number) for number in range(3)})
    await nft.commit(proposal.remove, proposal.add)
    ledger.accept(proposal)
    for family, name in ledger.unlearned():
        ledger.learn(await nft.chain(family, name))
    assert ledger.unlearned() == ()
    assert not ledger.drift_table("inet", await nft.table("inet"))


@pytest.mark.parametrize(
    "sabotage",
    [
        "flush ruleset",
        "flush table inet vnetd",
        "flush chain inet vnetd forward; flush set inet vnetd from4",
        "delete element inet vnetd guarded { virbr1 }",
        "insert rule inet vnetd from_guest drop",
        "add chain inet vnetd forward { policy drop; }",
        "add chain inet vnetd evil { type filter hook forward priority -5; }; add rule inet vnetd evil drop",
        "flush chain inet vnetd forward; flush chain inet vnetd from_guest; delete chain inet vnetd from_guest",
        "add element inet vnetd from4 { virbr9 . 10.99.0.0/16 }",
        "add set inet vnetd evil { type mark; }",
    ],
)
async def test_whatever_another_process_breaks_is_found_and_healed(plain: LinuxNft, sabotage: str) -> None:
    nft = plain
    ledger = Ledger()
    proposal = ledger.propose({f"network:{number}": nat_network(number) for number in range(3)})
    await nft.commit(proposal.remove, proposal.add)
    ledger.accept(proposal)
    ledger.learn(await nft.table("inet"))
    run("nft", sabotage)
    drift = merge(*[ledger.drift_table(family, await nft.table(family)) for family in ("inet", "bridge")])
    assert drift.what
    await nft.commit(drift.remove, drift.add, drift.rules)
    assert not ledger.drift_table("inet", await nft.table("inet"))


@contextmanager
def reported() -> Iterator[list[int]]:
    """What the kernel reports of nftables, by kind of message, up to the end of the block."""
    kinds: list[int] = []
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER) as sock:
        sock.bind((0, 1 << (GROUP_NFTABLES - 1)))
        yield kinds
        sock.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                kinds += [kind & 0xFF for kind, *_ in messages(sock.recv(RECEIVE))]


@pytest.mark.parametrize("chain", ["forward", "to_guest", "masquerade-1024-65535"])
@pytest.mark.parametrize(
    "lost", [slice(0, 1), slice(-1, None), slice(0, None, 2), slice(None)], ids=["first", "last", "every other", "all"]
)
async def test_of_a_chain_only_the_deleted_rules_are_written(plain: LinuxNft, chain: str, lost: slice) -> None:
    ledger = Ledger()
    proposal = ledger.propose({"network:1": nat_network(1)})
    await plain.commit(proposal.remove, proposal.add)
    ledger.accept(proposal)
    ledger.learn(await plain.table("inet"))
    gone = [one["rule"]["handle"] for one in objects("chain", "inet", "vnetd", chain) if "rule" in one][lost]
    run("nft", "".join(f"delete rule inet vnetd {chain} handle {handle};" for handle in gone))
    drift = ledger.drift_chain("inet", chain, await plain.chain("inet", chain))
    with reported() as kinds:
        await plain.commit(drift.remove, drift.add, drift.rules)
    assert [kind for kind in kinds if kind in {NEW_RULE, RULE_GONE}] == [NEW_RULE] * len(gone)
    assert not ledger.drift_table("inet", await plain.table("inet"))


async def test_rules_beside_a_deleted_one_keep_what_they_have_counted(plain: LinuxNft) -> None:
    ledger = Ledger()
    proposal = ledger.propose({"a": CONTENTS})
    await plain.commit(proposal.remove, proposal.add)
    ledger.accept(proposal)
    run("ping", "-c", "1", "-W", "1", "127.0.0.1")
    before = (await plain.counts("inet", ["input"]))["input"]
    assert (before[0].packets, before[1].packets > 0) == (0, True)
    handle = next(one["rule"]["handle"] for one in objects("chain", "inet", "vnetd", "input") if "rule" in one)
    run("nft", f"delete rule inet vnetd input handle {handle}")
    drift = ledger.drift_chain("inet", "input", await plain.chain("inet", "input"))
    await plain.commit(drift.remove, drift.add, drift.rules)
    assert (await plain.counts("inet", ["input"]))["input"] == before


async def test_a_cancelled_caller_leaves_the_ruleset_as_it_was(nft: LinuxNft) -> None:
    await nft.commit(EMPTY, CONTENTS)
    for _ in range(20):
        task = asyncio.create_task(nft.commit(EMPTY, LATER))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await nft.set("inet", "guests") == CONTENTS.elements


async def test_after_a_restart_everything_is_found_and_can_be_changed(nft: LinuxNft) -> None:
    await nft.commit(EMPTY, CONTENTS)
    before = handles()
    await nft.close()
    again = LinuxNft()
    await again.open()
    try:
        assert handles() == before
        assert again.owned is nft.owned
        await again.commit(EMPTY, LATER)
        assert await again.set("inet", "guests") == CONTENTS.elements | LATER.elements
    finally:
        await again.close()


async def test_tables_carry_flags_if_and_only_if_they_are_owned(nft: LinuxNft) -> None:
    await nft.commit(EMPTY, CONTENTS)
    assert any("flags" in one.get("table", {}) for one in objects("tables")) is nft.owned
    assert nft.owned is (missing_feature("nft-owned-tables") == "")


@pytest.mark.stock_kernel("nft-owned-tables")
async def test_owned_tables_survive_a_foreign_flush_and_refuse_foreign_changes(nft: LinuxNft) -> None:
    await nft.commit(EMPTY, CONTENTS)
    run("nft", "flush", "ruleset")
    assert run("nft", "flush chain inet vnetd input", check=False).returncode != 0
    listed = await nft.table("inet")
    assert listed is not None
    assert len(listed.chains["input"]) == 2


@pytest.mark.stock_kernel("nft-owned-tables")
async def test_owned_tables_outlive_their_owner(nft: LinuxNft) -> None:
    await nft.commit(EMPTY, CONTENTS)
    await nft.close()
    flags = [one["table"].get("flags") for one in objects("tables") if "table" in one]
    assert flags == ["persist", "persist"]
    assert "input" in handles()


async def test_a_plain_table_becomes_owned_only_by_rewriting() -> None:
    run("nft", "add table inet vnetd; add chain inet vnetd old; add table bridge other")
    nft = LinuxNft()
    await nft.open()
    try:
        assert not nft.owned
        await nft.commit(EMPTY, Fragment(chains=(Chain("inet", "new", ()),)))
        assert set(handles()) == {"old", "new"}
        could = nft.claimable
        await nft.rewrite(CONTENTS)
        assert nft.owned is could
        assert not nft.claimable
        assert set(handles()) == {"input"}
        flags = {one["table"]["name"]: one["table"].get("flags") for one in objects("tables") if "table" in one}
        assert bool(flags["vnetd"]) is nft.owned
        assert flags["other"] is None
    finally:
        await nft.close()


OWNER = """
import asyncio, sys
from vnetd.linux.nft import LinuxNft
from vnetd.plan.rules import EMPTY, Chain, Fragment

async def main():
    nft = LinuxNft()
    await nft.open()
    await nft.commit(EMPTY, Fragment(chains=(Chain("inet", "theirs", ()),)))
    print("ready", flush=True)
    sys.stdin.readline()

asyncio.run(main())
"""


@pytest.mark.stock_kernel("nft-owned-tables")
async def test_a_second_owner_is_told_and_takes_over_once_the_first_is_gone(nft: LinuxNft) -> None:
    pipe = asyncio.subprocess.PIPE
    top = str(Path(__file__).resolve().parents[2])
    other = await asyncio.create_subprocess_exec(
        sys.executable, "-c", OWNER, stdin=pipe, stdout=pipe, cwd=top, env={"PYTHONPATH": f"{top}:{':'.join(sys.path)}"}
    )
    try:
        assert other.stdout is not None
        assert await other.stdout.readline() == b"ready\n"
        with pytest.raises(HostError):
            await nft.commit(EMPTY, CONTENTS)
        other.kill()
        await other.wait()
        await nft.close()
        successor = LinuxNft()
        await successor.open()
        assert successor.owned
        await successor.commit(EMPTY, CONTENTS)
        assert set(handles()) == {"theirs", "input"}
        await successor.close()
    finally:
        if other.returncode is None:
            other.kill()
            await other.wait()
