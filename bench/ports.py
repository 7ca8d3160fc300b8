"""Ports: what attaching and detaching takes, alone and beside a thousand others."""

import asyncio
import json
import os
import resource
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from statistics import median
from time import perf_counter, sleep

from dbus_next.aio.message_bus import MessageBus
from dbus_next.message import Message
from pyroute2.iproute.linux import IPRoute
from support.client import MANAGER, NAME, PORT, ROOT, plain, variant
from support.netns import Lab, Namespace

from bench.figures import Figure, milliseconds, native
from bench.job import FILTER
from bench.vnetd_peer import SETTLED, Running, seconds

CROWD, USERS = 1000, 500
UPDATES = 9
PAUSES, PAUSE = 30, 0.1
"""Attachments after a silence, and its seconds."""
FILTERS = f"{NAME}.Filter"
SUBNET = 902
"""Number of the subnet, beyond those of other figures."""
NETWORK, DIRECT = "ports", "macvtaps"
CARD = "card0"
GROWTH = 1.25
DEAREST = 5.0
"""Milliseconds an attachment may take."""


@dataclass(slots=True)
class Took:
    """Seconds of each attachment and detachment, and of what the kernel itself takes for such a device afterwards: to
    put it where it belongs and set it up (``placing``), and to delete it (``kernel``).
    """

    attach: list[float] = field(default_factory=list)
    detach: list[float] = field(default_factory=list)
    placing: list[float] = field(default_factory=list)
    kernel: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Opened:
    """A tap that was handed out; who holds it closes ``tap``."""

    port: str
    tap: int


Open = Callable[[str], Awaitable[Opened]]
"""Asks for a tap for a guest with this MAC address."""


async def port_figures(run: Running, lab: Lab, rounds: int) -> list[Figure]:
    """Taps, veths and macvtaps with a filter, in networks of their own, with none and with ``CROWD`` others present."""
    _allow_descriptors(2 * CROWD + 256)
    network = await run.client.define_network(native(NETWORK, SUBNET, bridge={"name": "virbr42", "stp": False}))
    await run.client.start(network)
    guest, direct = lab.namespace("containers"), await _over_a_card(run, lab)

    async def each(open_tap: Open, open_macvtap: Open) -> tuple[Took, Took, Took]:
        taps, veths = await _opened(run, open_tap, rounds), await _veths(run, guest, rounds)
        macvtaps = await _opened(run, open_macvtap, rounds)
        for kind, took in (("tap", taps), ("veth", veths), ("macvtap", macvtaps)):
            await asyncio.to_thread(_without_vnetd, run.host, kind, rounds, took)
        return taps, veths, macvtaps

    async with opening(run.daemon_bus) as open_tap, opening(run.daemon_bus, DIRECT) as open_macvtap:
        alone = await each(open_tap, open_macvtap)
        paused = (await _opened(run, open_tap, PAUSES, PAUSE)).attach
        held, first = await _crowd(open_tap, range(USERS))
        updates = await _updates(run)
        more, rest = await _crowd(open_tap, range(USERS, CROWD))
        beside = await each(open_tap, open_macvtap)
        await run.client.stop(network)
        await run.client.stop(direct)
        for one in (*held, *more):
            os.close(one.tap)
    figures = [
        Figure(f"attach {CROWD} taps, one after another", first + rest, "s", 5),
        milliseconds(f"change a filter that {USERS} ports have", updates, 1000),
        milliseconds(f"attach a tap after {PAUSE} s of silence", paused),
    ]
    for kind, few, many in zip(("tap", "veth", "macvtap"), alone, beside, strict=True):
        figures += _compared(kind, few, many)
    return figures


async def _over_a_card(run: Running, lab: Lab) -> str:
    """A network whose guests have macvtaps on a card of the host's, which leads to a machine; it runs."""
    lab.veth(run.host, CARD, lab.namespace("lan"), "eth0")
    document = {"name": DIRECT, "mode": "macvtap", "macvtap_mode": "bridge", "devices": {"interfaces": [CARD]}}
    network = await run.client.define_network(json.dumps(document))
    await run.client.start(network)
    return network


def _compared(kind: str, few: Took, many: Took) -> list[Figure]:
    ratio = _growth(few.attach, many.attach)
    grown = (median(many.placing) - median(few.placing)) * 1000
    beside = f"{median(many.attach) * 1000:.2f} ms beside {CROWD}; the kernel's own share has grown by {grown:.2f} ms"
    return [
        milliseconds(f"attach a {kind}, filter included", few.attach, DEAREST),
        Figure(f"attach a {kind} beside {CROWD} ports / alone", ratio, "x", GROWTH, beside),
        _detached(f"detach a {kind}", few),
        _detached(f"detach a {kind} beside {CROWD} ports", many, f"; {_growth(few.detach, many.detach):.2f} x alone"),
    ]


def _growth(few: list[float], many: list[float]) -> float:
    return median(many) / median(few)


def _detached(what: str, took: Took, growth: str = "") -> Figure:
    kernel = median(took.kernel) * 1000
    return milliseconds(what, took.detach, 1.3 * kernel, f"1.3 x the kernel's own {kernel:.1f} ms{growth}")


def _allow_descriptors(number: int) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(number, hard), hard))


@asynccontextmanager
async def opening(address: str, network: str = NETWORK) -> AsyncIterator[Open]:
    """A client that asks for taps with the bench's filter; guests are told apart by their MAC address."""
    bus = await MessageBus(address, negotiate_unix_fd=True).connect()

    async def open_tap(mac: str) -> Opened:
        spec = {key: variant(value) for key, value in _filtered(mac).items()}
        reply = await bus.call(
            Message(
                destination=NAME, path=ROOT, interface=MANAGER, member="OpenTap", signature="sa{sv}",
                body=[network, spec],
            )
        )  # fmt: skip
        assert reply is not None and reply.unix_fds, reply and reply.body
        return Opened(str(plain(reply.body)[0]), reply.unix_fds[0])

    try:
        yield open_tap
    finally:
        bus.disconnect()  # type: ignore[no-untyped-call]


async def _crowd(open_tap: Open, numbers: range) -> tuple[list[Opened], float]:
    """Taps that are held, and how many seconds it took to attach them one after another."""
    began = perf_counter()
    held = [await open_tap(f"52:54:01:00:{number >> 8:02x}:{number & 255:02x}") for number in numbers]
    return held, perf_counter() - began


async def _updates(run: Running) -> list[float]:
    """Seconds of each change of the filter in use: every time it gets another rule of its own, and new chains.

    In the end it is as it was: those who come later are compared with those before.
    """
    path = str(await run.client.call(ROOT, MANAGER, "GetFilter", "s", FILTER))
    document = json.loads(await run.client.call(path, FILTERS, "Describe", "sa{sv}", "json", {}))
    took = []
    for number in range(UPDATES):
        match = {"protocol": "tcp", "attributes": [{"name": "dstportstart", "value": str(7000 + number)}]}
        rule = {"action": "drop", "direction": "out", "match": match}
        changed = json.dumps(document | {"entries": [*document["entries"], rule]})
        took.append(await seconds(run.client.define_filter(changed)))
    await run.client.define_filter(json.dumps(document))
    return took


def _filtered(mac: str) -> dict[str, str]:
    return {"mac": mac, "filter": FILTER, "parameter.IP": "192.168.222.7"}


async def _opened(run: Running, open_tap: Open, rounds: int, pause: float = 0) -> Took:
    took = Took()
    for number in range(rounds):
        await asyncio.sleep(pause)
        began = perf_counter()
        opened = await open_tap(f"52:54:02:00:{number >> 8:02x}:{number & 255:02x}")
        took.attach.append(perf_counter() - began)
        took.detach.append(await seconds(run.client.call(opened.port, PORT, "Detach")))
        os.close(opened.tap)
    return took


async def _veths(run: Running, guest: Namespace, rounds: int) -> Took:
    took = Took()
    for number in range(rounds):
        spec = _filtered(f"52:54:03:00:{number >> 8:02x}:{number & 255:02x}") | {"kind": "veth", "netns": guest.name}
        began = perf_counter()
        port = await run.client.attach(NETWORK, spec)
        took.attach.append(perf_counter() - began)
        took.detach.append(await seconds(run.client.call(port, PORT, "Detach")))
    return took


def _without_vnetd(host: Namespace, kind: str, rounds: int, took: Took) -> None:
    """Note how long it takes until such a device is up, in a bridge or on a card, once it is there; and to delete it.

    Between the attachments this would leave them caches full of other things.
    """
    sleep(SETTLED)
    with host.entered(), IPRoute() as kernel:
        (bridge,), (card,) = kernel.link_lookup(ifname="virbr42"), kernel.link_lookup(ifname=CARD)
        for _ in range(rounds):
            match kind:
                case "tap":
                    kernel.link("add", ifname="compare1", kind="tuntap", mode="tap")
                case "veth":
                    kernel.link("add", ifname="compare1", kind="veth", peer="compare2")
                case "macvtap":
                    kernel.link("add", ifname="compare1", kind="macvtap", link=card, macvtap_mode="bridge")
            (index,) = kernel.link_lookup(ifname="compare1")
            began = perf_counter()
            if kind != "macvtap":
                kernel.link("set", index=index, master=bridge)
            kernel.link("set", index=index, state="up")
            up = perf_counter()
            kernel.link("del", index=index)
            took.placing.append(up - began)
            took.kernel.append(perf_counter() - up)
