"""Runs inside a machine with a network card that has virtual functions: uses a pool of them, and notes what came of it.

vnetd runs from this checkout, in the machine's own network namespace, where the card is. The facts build on each other:
guests ``one`` and ``two`` get their functions from the card's pool, ``three`` by its address. Each is noted whatever
became of the others; one that could not be had holds the reason under ``error``.
"""

import asyncio
import json
import os
import tempfile
import time
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from support import waiting
from support.client import MANAGER, PORT, ROOT, Client, Refused, variant
from support.daemon import Daemon
from support.netns import Namespace, run
from support.private_bus import private_bus

SHARE = Path("/machine")
# Who looked all the time would keep the machine busy with that.
wait_until = partial(waiting.wait_until, deadline=20, pause=0.2)
eventually = partial(waiting.eventually, deadline=20, pause=0.2)
BY_ADMINISTRATOR = ("mac", "52:54:00:aa:00:01", "vlan", "7", "spoofchk", "off", "trust", "on")
"""What the first function is set to before vnetd has it."""
MACS = {"one": "52:54:00:77:00:01", "two": "52:54:00:77:00:02", "three": "52:54:00:77:00:03"}
BLUE = {"name": "blue", "vlan": {"tags": [{"id": 42}]}}

Fact = dict[str, Any]


@dataclass
class Site:
    """A daemon, the card ``card`` of its host, and paths of ports by guest."""

    client: Client
    daemon: Daemon
    card: str
    before: Fact = field(default_factory=dict)
    ports: dict[str, str] = field(default_factory=dict)

    @property
    def device(self) -> Path:
        """The card in sysfs."""
        return Path("/sys/class/net", self.card, "device")

    def address(self, number: int) -> str:
        """PCI address of a function."""
        return (self.device / f"virtfn{number}").readlink().name

    def functions(self) -> Fact:
        """What the card does for its functions, by number, as iproute2 tells."""
        return functions_of(self.card)

    async def attach(self, guest: str, network: str, **spec: Any) -> Fact:
        """Have a function handed out to a guest; the result."""
        wanted = {"kind": "hostdev", "mac": MACS[guest], **spec}
        values = {name: variant(value) for name, value in wanted.items()}
        self.ports[guest], result = await self.client.call(ROOT, MANAGER, "Attach", "sa{sv}", network, values)
        return dict(result)

    async def refusal(self, network: str, **spec: Any) -> str:
        """Why a function is not handed out."""
        try:
            result = await self.attach("three", network, **spec)
        except Refused as error:
            return str(error)
        raise AssertionError(f"handed out: {result}")

    async def has(self, number: int, settings: Fact) -> None:
        """Wait until a function has these settings."""
        await eventually(lambda: self.functions().get(str(number)) == settings)


def functions_of(card: str) -> Fact:
    """By number."""
    (link,) = json.loads(run("ip", "-json", "-details", "link", "show", "dev", card).stdout)
    return {str(one["vf"]): _settings(one) for one in link.get("vfinfo_list", ())}


def _settings(shown: Fact) -> Fact:
    vlan = next((one["vlan"] for one in shown["vlan_list"] if "vlan" in one), 0)
    kept = {name: shown[name] for name in ("spoofchk", "trust", "link_state")}
    return {"mac": shown["address"], "vlan": vlan, **kept}


async def handed_out(site: Site) -> Fact:
    """Two of the pool, one by its address; then nothing is left to hand out."""
    await network(site.client, "pool", {"pf": site.card}, portgroups=[BLUE])
    await network(site.client, "listed", {"pci": [pci(site.address(2))]}, vlan=BLUE["vlan"])
    results = {
        "one": await site.attach("one", "pool", portgroup="blue", spoof_check=True, trust=False),
        "two": await site.attach("two", "pool", spoof_check=False, trust=True),
        "three": await site.attach("three", "listed"),
    }
    kept = dict(site.ports)
    refusals = [await site.refusal(name, mac="52:54:00:77:00:09") for name in ("pool", "listed")]
    assert kept == site.ports
    addresses = {guest: site.address(number) for number, guest in enumerate(MACS)}
    return {"results": results, "addresses": addresses, "refusals": refusals, "functions": site.functions()}


async def network(client: Client, name: str, devices: Fact, **fields: Any) -> None:
    """Define and start a pool."""
    document = {"name": name, "mode": "hostdev", "devices": devices, **fields}
    await client.start(await client.define_network(json.dumps(document)))


def pci(address: str) -> Fact:
    """An address as documents have it."""
    domain, bus, rest = address.split(":")
    slot, function = rest.split(".")
    numbers = {"domain": domain, "bus": bus, "slot": slot, "function": function}
    return {name: int(digits, 16) for name, digits in numbers.items()}


async def traffic(site: Site) -> Fact:
    """Guests use their functions: ``one`` and ``three`` in a VLAN, ``two`` and the host outside of it."""
    macs = {guest: plug_in(site, number, guest) for number, guest in enumerate(MACS)}
    run("ip", "address", "add", "192.0.2.9/24", "dev", site.card)
    one, two = Namespace("one"), Namespace("two")
    wait_until(lambda: one.ping("192.0.2.3"), "guests of one VLAN reach each other")
    wait_until(lambda: two.ping("192.0.2.9"), "a guest without VLAN reaches the host")
    answers = {
        "one to two": one.ping("192.0.2.2", count=2),
        "one to the host": one.ping("192.0.2.9", count=2),
        "two to three": two.ping("192.0.2.3", count=2),
    }
    return {"macs": macs, "answers": answers}


def plug_in(site: Site, number: int, guest: str) -> str:
    """Give a function's device to a guest, as its driver finds it; the MAC address it has."""
    driver = Path("/sys/bus/pci/drivers/igbvf")
    for file in ("unbind", "bind"):
        (driver / file).write_text(site.address(number))
    device = next((site.device / f"virtfn{number}/net").iterdir()).name
    run("ip", "netns", "add", guest)
    run("ip", "link", "set", device, "netns", guest, "name", "eth0", "up")
    run("ip", "-netns", guest, "address", "add", f"192.0.2.{number + 1}/24", "dev", "eth0")
    link = Namespace(guest).link("eth0")
    assert link is not None
    return str(link["address"])


async def meddled(site: Site) -> Fact:
    """Somebody changes at the card what vnetd has set."""
    before = site.functions()
    run("ip", "link", "set", site.card, "vf", "0", "vlan", "9", "spoofchk", "off", "trust", "on")
    await site.has(0, before["0"])
    return {"before": before, "after": site.functions()}


async def unplugged(site: Site) -> Fact:
    """The link of a function is to be set down, which this card's driver cannot."""
    before, path = site.functions(), site.ports["one"]
    try:
        await site.client.call(path, PORT, "SetLink", "b", False)
        refused = ""
    except Refused as error:
        refused = str(error)
    return {
        "refused": refused,
        "before": before,
        "after": site.functions(),
        "port": [await site.client.get(path, PORT, name) for name in ("LinkUp", "State")],
    }


async def killed(site: Site) -> Fact:
    """The daemon is killed, a setting changed while none runs, and another one started."""
    before = {"functions": site.functions(), "ports": await site.client.call(ROOT, MANAGER, "ListPorts", "a{sv}", {})}
    site.daemon.kill()
    run("ip", "link", "set", site.card, "vf", "1", "mac", "52:54:00:aa:00:09", "trust", "off")
    site.daemon.start()
    await site.has(1, before["functions"]["1"])
    after = {"functions": site.functions(), "ports": await site.client.call(ROOT, MANAGER, "ListPorts", "a{sv}", {})}
    return {"before": before, "after": after, "refusal": await site.refusal("pool", mac="52:54:00:77:00:09")}


async def vanished(site: Site) -> Fact:
    """The card loses its functions, and gets them back as new ones."""
    before, path = site.functions(), site.ports["one"]

    async def problems() -> Any:
        return await site.client.get(path, PORT, "Problems")

    (site.device / "sriov_numvfs").write_text("0")
    told = await eventually(problems)
    (site.device / "sriov_numvfs").write_text(str(len(MACS)))
    for number, settings in before.items():
        await site.has(int(number), settings)
    await eventually(lambda: _none(problems))
    return {"problems": told, "before": before, "after": site.functions()}


async def _none(problems: Callable[[], Awaitable[Any]]) -> bool:
    return not await problems()


async def released(site: Site) -> Fact:
    """All are given back, and one is asked for with what this card's driver cannot do."""
    for path in site.ports.values():
        await site.client.call(path, PORT, "Detach")
    given_back = site.functions()
    refusal = await site.refusal("pool", link=False)
    return {"before": site.before, "after": given_back, "refusal": refusal, "after_refusal": site.functions()}


FACTS = (handed_out, traffic, meddled, unplugged, killed, vanished, released)


def plugged_in_card() -> str:
    """Name of the card, once it has its functions and the first is set as an administrator would."""
    run("modprobe", "--all", "igb", "igbvf")
    (found,) = wait_until(lambda: list(Path("/sys/bus/pci/drivers/igb").glob("0000:*/net/*")), "there is a card")
    run("ip", "link", "set", found.name, "up")
    carrier = Path("/sys/class/net", found.name, "carrier")
    wait_until(lambda: carrier.read_text().strip() == "1", "its cable is plugged in")
    (found / "device/sriov_numvfs").write_text(str(len(MACS)))
    run("ip", "link", "set", found.name, "vf", "0", *BY_ADMINISTRATOR)
    return found.name


async def collect(daemon: Daemon, card: str) -> None:
    """All facts into ``facts.json``."""
    facts: dict[str, Fact] = {}
    async with Client(daemon.bus) as client:
        site = Site(client, daemon, card, functions_of(card))
        for find in FACTS:
            begin = time.monotonic()
            try:
                facts[find.__name__] = await find(site)
            except Exception:
                facts[find.__name__] = {"error": traceback.format_exc()}
            print(f"{find.__name__}: {time.monotonic() - begin:.1f} s", flush=True)
            (SHARE / "facts.json").write_text(json.dumps(facts))


def main() -> None:
    """Set up, collect, and show the daemon's log."""
    begin = time.monotonic()
    card = plugged_in_card()
    run("ip", "netns", "attach", "host", str(os.getpid()))
    with private_bus() as bus, tempfile.TemporaryDirectory() as root:
        Path(root).chmod(0o755)
        daemon = Daemon(Namespace("host"), bus.address, Path(root))
        try:
            daemon.start()
            print(f"ready: {time.monotonic() - begin:.1f} s", flush=True)
            asyncio.run(collect(daemon, card))
        finally:
            daemon.close()
            print(daemon.log.read_text())


main()
