"""Runs inside a clean Debian that systemd booted: does what README.md's "Install" says, and notes what came of it.

``package_facts.py install`` on the first boot, ``package_facts.py rebooted`` on the next one of the same disk. Nothing
but the standard library. Waits have deadlines of minutes: everything is twenty times slower in here.
"""

import json
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

SHARE = Path("/machine")
MAC = "52:54:00:00:00:07"


def run(*command: str, timeout: float = 900, check: bool = True) -> str:
    """What a command prints; it has to succeed."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False, env=environment)
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr or done.stdout}")
    return done.stdout


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
    served = run("pgrep", "-x", "dnsmasq", check=False).split()
    return {"bridge": [link["ifindex"] for link in links if link], "dnsmasq": served}


def installed() -> dict[str, Any]:
    """After apt has installed the package on a system that runs."""
    said = run("apt-get", "install", "--yes", str(SHARE / "vnetd.deb"))
    return {"said": said, "default": default(), "service": service()}


def upgraded() -> dict[str, Any]:
    """After apt has upgraded it, with a guest attached."""
    before, daemon = kernel(), run("systemctl", "show", "vnetd.service", "--property=MainPID", "--value")
    run("apt-get", "install", "--yes", str(SHARE / "newer.deb"))
    after = run("systemctl", "show", "vnetd.service", "--property=MainPID", "--value")
    return {"before": before, "after": kernel(), "restarted": daemon != after, "default": default()}


def removed() -> dict[str, Any]:
    """After apt has removed and then purged it."""
    run("apt-get", "remove", "--yes", "vnetd")
    left = {"kernel": kernel(), "definition": Path("/etc/vnetd/networks/default.json").exists()}
    run("apt-get", "purge", "--yes", "vnetd")
    paths = ("/etc/vnetd", "/var/lib/vnetd", "/run/vnetd", "/usr/lib/vnetd", "/usr/bin/vnetd")
    return {**left, "after_purge": [path for path in paths if Path(path).exists()]}


STAGES: dict[str, list[tuple[str, Callable[[], Any]]]] = {
    "install": [("installed", installed), ("lease", guest)],
    "rebooted": [
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
