"""Runs inside a machine that booted systemd: does what an administrator does to vnetd, and notes what came of it.

Nothing but the standard library and what needs no more, for to import takes long in there. Each fact is noted
whatever became of the others; one that could not be had holds the reason under ``error``. Waits have deadlines of a
minute and more.
"""

import json
import os
import re
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from support.passt_guest import MAC, PasstGuest, who_has

SHARE = Path("/machine")
MANAGER = ("org.vnetd1", "/org/vnetd1", "org.vnetd1.Manager")
BRIDGE = "virbr0"
OUTSIDE = "203.0.113.1"

Fact = dict[str, Any]


def run(*command: str, timeout: float = 180) -> str:
    """Standard output of a command, which has to succeed."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr or done.stdout}")
    return done.stdout


def wait_for(condition: Callable[[], Any], what: str, deadline: float = 120) -> Any:
    """What ``condition`` returns once that is true."""
    end = time.monotonic() + deadline
    while not (seen := condition()):
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {deadline} s")
        time.sleep(0.2)
    return seen


def unit(name: str, *properties: str) -> dict[str, str]:
    """Properties of a unit."""
    shown = run("systemctl", "show", name, *(f"--property={one}" for one in properties))
    return dict(line.split("=", 1) for line in shown.splitlines())


def main_pid() -> int:
    """The daemon's process, 0 if there is none."""
    return int(unit("vnetd.service", "MainPID")["MainPID"])


def active() -> bool:
    """Whether the service is."""
    return unit("vnetd.service", "ActiveState")["ActiveState"] == "active"


def kernel() -> Fact:
    """What must not change while the daemon comes and goes: the bridge, and who serves addresses on it."""
    links = {one["ifname"]: one for one in json.loads(run("ip", "-json", "address", "show"))}
    bridge = links.get(BRIDGE, {"addr_info": [], "ifindex": 0})
    addresses = [f"{one['local']}/{one['prefixlen']}" for one in bridge["addr_info"] if one["scope"] == "global"]
    serving = ["pgrep", "-x", "-u", "dnsmasq", "dnsmasq"]  # one that waits for a network is still root
    listed = subprocess.run(serving, capture_output=True, text=True, check=False).stdout
    return {"ifindex": bridge["ifindex"], "addresses": addresses, "dnsmasq": sorted(map(int, listed.split()))}


def networks() -> str:
    """What the daemon answers; D-Bus starts it if nobody did."""
    return run("busctl", "call", *MANAGER, "ListNetworks", "a{sv}", "0")


def booted() -> Fact:
    """What stands once multi-user.target is reached, and what units found that were ordered behind vnetd's."""
    seen = {path.stem: path.read_text() for path in Path("/run/seen").iterdir()}
    return {
        "unit": unit("vnetd.service", "ActiveState", "NRestarts", "StatusText", "Type"),
        "kernel": kernel(),
        "after_the_service": seen.get("after-vnetd"),
        "after_the_network": seen.get("after-network"),
        "waiting": unit("after-network.service", "Result", "ActiveState"),
    }


def order() -> Fact:
    """When units started, in microseconds of the monotonic clock, and whose tables there are."""
    entered, left = "ActiveEnterTimestampMonotonic", "InactiveExitTimestampMonotonic"
    return {
        "firewall_done": int(unit("nftables.service", entered)[entered]),
        "firewall": unit("nftables.service", "ActiveState")["ActiveState"],
        "networkd": unit("systemd-networkd.service", "ActiveState")["ActiveState"],
        "daemon_begun": int(unit("vnetd.service", left)[left]),
        "tables": run("nft", "list", "tables").splitlines(),
        "links": run("networkctl", "--no-legend", "--no-pager", "list").splitlines(),
    }


def analyzed() -> Fact:
    """What systemd says of the unit as installed."""
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "vnetd.service", "vnet-network@default.service"],
        capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip
    complaints = [line for line in verified.stderr.splitlines() if "vnet" in line]
    scored = run("systemd-analyze", "security", "--no-pager", "vnetd.service")
    found = re.search(r"Overall exposure level for vnetd.service: ([0-9.]+)", scored)
    return {"complaints": complaints, "exposure": float(found[1]) if found else None}


def restarted() -> Fact:
    """A restart under a ping from a guest through address translation to the outside."""
    run("ip", "link", "set", "guest0", "master", BRIDGE, "up")
    wait_for(_reaches_outside, "the guest reaches the outside")
    # A ping that ended before the restart did has shown nothing: once more, and longer.
    for count in (100, 300):
        before = {"pid": main_pid(), "kernel": kernel()}
        ping = subprocess.Popen(
            ["ip", "netns", "exec", "guest", "ping", "-n", "-i", "0.2", "-c", str(count), OUTSIDE],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        run("systemctl", "restart", "vnetd.service")
        under_way = ping.poll() is None
        networks()
        shown = ping.communicate(timeout=600)[0]
        if under_way:
            break
    sent, received = map(int, re.findall(r"(\d+) packets transmitted, (\d+) received", shown)[0])
    after = {"pid": main_pid(), "kernel": kernel()}
    return {"before": before, "after": after, "sent": sent, "received": received, "under_way": under_way}


def _reaches_outside() -> bool:
    command = ["ip", "netns", "exec", "guest", "ping", "-n", "-c", "1", "-W", "2", OUTSIDE]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def sandboxed() -> Fact:
    """Guests whose ways lead through what the sandbox leaves open for them."""
    return {"passt": _behind_passt(), "macvtap": _on_a_macvtap(), "process": _in_a_process()}


def _behind_passt() -> Fact:
    """passt becomes its user and shuts itself in."""
    guest = PasstGuest(_attached("user", kind="passt")["socket"]["data"])
    offered = guest.offered(wait=120)
    guest.close()
    return {"offered": offered, "users": run("ps", "-o", "user=", "-C", "passt,passt.avx2").split()}


def _on_a_macvtap() -> Fact:
    """A device of the card's own network, handed out as QEMU's helper does, speaks and goes with its holder."""
    ours, theirs = socket.socketpair()
    command = ["vnet-bridge-helper", "--br", "direct", "--fd", str(theirs.fileno()), "--mac", MAC.hex(":")]
    subprocess.run(command, pass_fds=(theirs.fileno(),), timeout=180, check=True)
    _, (tap,), _, _ = socket.recv_fds(ours, 1, 1)
    os.set_blocking(tap, False)
    wait_for(lambda: _answers(tap), "the outside answers")
    held = run("ip", "-oneline", "link", "show", "type", "macvtap").splitlines()
    os.close(tap)
    wait_for(lambda: not run("ip", "-oneline", "link", "show", "type", "macvtap"), "the port goes with its holder")
    return {"held": held}


def _answers(tap: int) -> bool:
    """Whether the outside says where it is; asked again each time."""
    os.write(tap, who_has(OUTSIDE, "203.0.113.9"))
    time.sleep(0.1)
    try:
        return os.read(tap, 2048)[28:32] == socket.inet_aton(OUTSIDE)  # the sender of an ARP reply
    except BlockingIOError:
        return False


def _in_a_process() -> Fact:
    """A guest's network namespace that has no name, given by the process that is in it."""
    with subprocess.Popen(["unshare", "--net", "sleep", "1000"]) as guest:
        inside = f"/proc/{guest.pid}/ns/net"
        wait_for(lambda: os.readlink(inside) != os.readlink("/proc/self/ns/net"), "it has a namespace")
        _attached("default", kind="veth", netns=str(guest.pid))
        shown = run("nsenter", f"--net={inside}", "ip", "-oneline", "link", "show", "eth0")
        guest.kill()
    return {"device": shown}


def _attached(network: str, **spec: str) -> Fact:
    """What the daemon answers of a new port."""
    words = [word for key, value in spec.items() for word in (key, "s", value)]
    said = run("busctl", "--json=short", "call", *MANAGER, "Attach", "sa{sv}", network, str(len(spec)), *words)
    return dict(json.loads(said)["data"][1])


def flushed() -> Fact:
    """The firewall is loaded anew, which flushes all there is; the daemon puts its own back."""

    def ours() -> bool:
        return "masquerade" in run("nft", "list", "ruleset") and _reaches_outside()

    wait_for(ours, "the rules are there")
    run("systemctl", "reload", "nftables.service")
    wait_for(ours, "the rules are back")
    return {"tables": run("nft", "list", "tables").splitlines()}


def hung() -> Fact:
    """The daemon is stopped dead: systemd's watchdog ends it and starts another."""
    before = {"pid": main_pid(), "kernel": kernel()}
    run("kill", "-STOP", str(before["pid"]))
    wait_for(lambda: main_pid() not in (0, before["pid"]) and active(), "another daemon is active", deadline=300)
    # systemd's own messages go to the kernel's log here.
    watchdog = "vnetd.service: Watchdog timeout" in run("dmesg")
    after = {"pid": main_pid(), "kernel": kernel()}
    return {"before": before, "after": after, "watchdog": watchdog, "answer": networks()}


def activated() -> Fact:
    """The service is stopped, then somebody calls."""
    before = kernel()
    run("systemctl", "stop", "vnetd.service")
    stopped = {"kernel": kernel(), "active": active()}
    answer = networks()
    return {"before": before, "stopped": stopped, "answer": answer, "active": active(), "after": kernel()}


def ended() -> Fact:
    """All networks are stopped, the daemon stays."""
    said = run("vnetctl", "network", "stop", "--all")
    return {"said": said, "kernel": kernel(), "active": active()}


FACTS = (booted, order, analyzed, sandboxed, restarted, flushed, activated, hung, ended)


def main() -> int:
    """Collect all facts into ``facts.json``."""
    facts: dict[str, Fact] = {}
    for collect in FACTS:
        begin = time.monotonic()
        try:
            facts[collect.__name__] = collect()
        except Exception:
            facts[collect.__name__] = {"error": traceback.format_exc()}
        print(f"{collect.__name__}: {time.monotonic() - begin:.1f} s", flush=True)
        (SHARE / "facts.json").write_text(json.dumps(facts))
    print(run("journalctl", "--no-pager", "--boot", "--unit=vnetd.service", "--unit=vnet-network@default.service"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
