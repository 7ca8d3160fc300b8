"""Runs inside a clean Debian that systemd booted: does what README.md's "Install" says, and notes what came of it.

``package_facts.py install`` on the first boot, ``package_facts.py rebooted`` on the next one of the same disk. Nothing
but the standard library. Waits have deadlines of minutes: everything is twenty times slower in here.
"""

import json
import os
import pty
import shutil
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

SHARE = Path("/machine")
README = json.loads((SHARE / "readme.json").read_text())
"""Command lines of README.md's "Install", by what they are for."""
MAC = "52:54:00:00:00:07"
NEIGHBOURS = ("NetworkManager.service", "firewalld.service")
QUESTION = b"[Y/n] "
OF_LIBVIRT = "<network><name>lab</name><forward mode='nat'/><ip address='10.9.8.1' netmask='255.255.255.0'/></network>"


def run(*command: str, timeout: float = 900, check: bool = True) -> str:
    """What a command prints; it has to succeed."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False, env=environment)
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr or done.stdout}")
    return done.stdout


def typed(line: str) -> dict[str, Any]:
    """What somebody sees who types this at a terminal, and says yes when asked."""
    process, terminal = pty.fork()
    if not process:
        os.execvp("sh", ["sh", "-c", line])
    shown = b""
    with suppress(OSError):  # how a terminal says that nobody is left at its other end
        while data := os.read(terminal, 65536):
            shown += data
            if shown.endswith(QUESTION):
                os.write(terminal, b"y\n")
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    text = shown.decode(errors="replace").replace("\r\n", "\n")
    print(line, text, sep="\n", flush=True)
    return {"line": line, "status": status, "shown": text}


def wait_for(condition: Callable[[], Any], what: str, deadline: float = 240) -> Any:
    """What ``condition`` returns once that is true."""
    end = time.monotonic() + deadline
    while not (seen := condition()):
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {deadline} s")
        time.sleep(0.5)
    return seen


def default() -> dict[str, Any]:
    """The network of that name as vnetctl lists it, once it is active; nothing if there is none."""

    def active() -> dict[str, Any] | None:
        listed = json.loads(run("vnetctl", "--json", "network", "list", check=False) or "[]")
        return next((one for one in listed if one["name"] == "default" and one["active"]), None)

    found = wait_for(active, "the network default is active")
    return {key: found[key] for key in ("state", "autostart", "addresses", "bridge")}


def service() -> str:
    """Whether the service is active and enabled."""
    shown = run("systemctl", "show", "vnetd.service", "--property=ActiveState,UnitFileState,NRestarts", "--value")
    return " ".join(shown.split())


def guest() -> list[dict[str, Any]]:
    """Leases of the default network, after a guest asked for one as any guest would."""
    run("ip", "netns", "add", "guest")
    run("vnetctl", "port", "attach", "default", "--veth", "--netns", "guest", "--mac", MAC)
    client = ("busybox", "udhcpc", "-i", "eth0", "-f", "-n", "-q", "-t", "60", "-T", "2", "-s", "/bin/true")
    run("ip", "netns", "exec", "guest", *client)
    leases = wait_for(lambda: json.loads(run("vnetctl", "--json", "network", "leases", "default")), "a lease is listed")
    return [{key: lease[key] for key in ("address", "mac", "family")} for lease in leases]


def kernel() -> dict[str, Any]:
    """What must survive an upgrade: the bridge and who serves addresses on it."""
    shown = run("ip", "-json", "link", "show", "virbr0", check=False)
    links = json.loads(shown) if shown.strip() else []
    served = run("pgrep", "-x", "-u", "dnsmasq", "dnsmasq", check=False).split()  # one that waits for a network is root
    return {"bridge": [link["ifindex"] for link in links if link], "dnsmasq": served}


def installed() -> dict[str, Any]:
    """After each command line of README.md in its order, on a system that runs, and that libvirt once was on."""
    kept = Path("/etc/libvirt/qemu/networks/lab.xml")
    kept.parent.mkdir(parents=True)
    kept.write_text(OF_LIBVIRT)
    shutil.copy(next(SHARE.glob("vnetd_*.deb")), README["output"])
    return {"typed": [typed(line) for line in README["install"]], "service": service(), "kernel": kernel()}


def translated() -> str:
    """What a ping from the guest tells of somebody outside who knows no way back to the guest's network."""
    lease = json.loads(run("vnetctl", "--json", "network", "leases", "default"))[0]["address"]
    run("ip", "netns", "add", "outside")
    run("ip", "link", "add", "uplink0", "type", "veth", "peer", "name", "eth0", "netns", "outside")
    for place, command in {
        (): "address add 203.0.113.2/24 dev uplink0",
        ("-n", "outside"): "address add 203.0.113.1/24 dev eth0",
        ("-n", "guest"): f"address add {lease}/24 dev eth0",
    }.items():
        run("ip", *place, *command.split())
    run("ip", "link", "set", "uplink0", "up")
    run("ip", "-n", "outside", "link", "set", "eth0", "up")
    run("ip", "-n", "guest", "route", "add", "default", "via", "192.168.122.1")
    return run("ip", "netns", "exec", "guest", "busybox", "ping", "-c", "3", "203.0.113.1")


def neighbours() -> dict[str, Any]:
    """Beside a firewall and another network service, which came up with the host and are stopped in the end."""
    entered, left = "ActiveEnterTimestampMonotonic", "InactiveExitTimestampMonotonic"

    def shown(unit: str, name: str) -> str:
        return run("systemctl", "show", unit, f"--property={name}", "--value").strip()

    found = {
        "active": [shown(unit, "ActiveState") for unit in NEIGHBOURS],
        "firewall_done": int(shown("firewalld.service", entered)),
        "daemon_begun": int(shown("vnetd.service", left)),
        "tables": run("nft", "list", "tables").splitlines(),
        "devices": run("nmcli", "--terse", "--fields", "DEVICE,STATE", "device").splitlines(),
    }
    # It would keep guests from asking for an address.
    run("systemctl", "stop", *NEIGHBOURS)
    return {**found, "tables_without": run("nft", "list", "tables").splitlines()}


def upgraded() -> dict[str, Any]:
    """After apt has upgraded it, with a guest attached."""
    before, daemon = kernel(), run("systemctl", "show", "vnetd.service", "--property=MainPID", "--value")
    run("apt-get", "install", "--yes", str(SHARE / "newer.deb"))
    after = run("systemctl", "show", "vnetd.service", "--property=MainPID", "--value")
    return {"before": before, "after": kernel(), "restarted": daemon != after, "default": default()}


def removed() -> dict[str, Any]:
    """After it was removed and then purged as README.md says."""
    remove, purge = README["removal"]
    said = [typed(remove)]
    left = {
        "kernel": kernel(),
        "processes": run("pgrep", "-x", "dnsmasq", check=False).split(),
        "definition": Path("/etc/vnetd/networks/default.json").exists(),
    }
    said.append(typed(purge))
    paths = ("/etc/vnetd", "/var/lib/vnetd", "/run/vnetd", "/usr/lib/vnetd", "/usr/bin/vnetd")
    return {**left, "typed": said, "after_purge": [path for path in paths if Path(path).exists()]}


STAGES: dict[str, list[tuple[str, Callable[[], Any]]]] = {
    "install": [("installed", installed), ("lease", guest), ("translated", translated)],
    "rebooted": [
        ("neighbours", neighbours),
        ("rebooted", lambda: {"service": service(), "default": default(), "kernel": kernel()}),
        ("lease_after_reboot", guest),
        ("upgraded", upgraded),
        ("removed", removed),
    ],
}


def main() -> None:
    """Note every fact of a stage, or why it could not be had."""
    noted = SHARE / "facts.json"
    facts = json.loads(noted.read_text()) if noted.exists() else {}
    for name, find in STAGES[sys.argv[1]]:
        begin = time.monotonic()
        try:
            facts[name] = {"found": find()}
        except Exception:
            facts[name] = {"error": traceback.format_exc() + run("journalctl", "--no-pager", "-n", "60", check=False)}
        facts[name]["seconds"] = round(time.monotonic() - begin)
        print(name, "seconds:", facts[name]["seconds"], "ERROR" if "error" in facts[name] else "", flush=True)
        noted.write_text(json.dumps(facts, indent=1))


main()
