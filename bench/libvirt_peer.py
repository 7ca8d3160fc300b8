"""libvirt of Debian 13, from a root directory of its own, in a namespace of its own."""

import json
import shutil
import subprocess
from pathlib import Path

from support.netns import Lab, Namespace, run
from support.waiting import wait_until

from bench.forwarding import ADDRESSES, MACS, Rates, several
from bench.job import BINDING, DEVICE, MAC, NETWORK, Job, Measured, binding
from bench.process import resident

CONFIGURATION = """auth_unix_rw = "none"
unix_sock_dir = "/run/libvirt"
log_outputs = "3:stderr"
"""


CROWD = 20
"""Further ports with a filter; libvirt takes the better part of a second for each."""


def measure(job: Job, root: Path, lab: Lab) -> tuple[Measured, Rates]:
    """Run libvirtd for the length of the job. The caller's mount namespace must be private."""
    namespace = lab.namespace("libvirt")
    _prepare(root, namespace)
    with (root / "run" / "libvirtd.log").open("wb") as log:
        daemon = subprocess.Popen(
            _inside(root, namespace, "libvirtd", "-f", "/run/libvirtd.conf", "-p", "/run/libvirtd.pid"),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        try:
            wait_until((root / "run/libvirt/libvirt-sock").exists, "libvirtd listens", deadline=30)
            return _measure(job, root, namespace, daemon.pid), _forward(root, namespace, lab)
        finally:
            daemon.kill()
            daemon.wait()


def _prepare(root: Path, namespace: Namespace) -> None:
    """Mount what it needs; nothing of an earlier run is left in it."""
    run("mount", "-t", "proc", "proc", str(root / "proc"))
    run("mount", "--rbind", "/dev", str(root / "dev"))
    # A sysfs shows the devices of the namespace it was mounted from.
    run("nsenter", f"--net={namespace.path}", "mount", "-t", "sysfs", "sysfs", str(root / "sys"))
    for volatile in ("run", "etc/libvirt", "var/lib/libvirt", "var/cache/libvirt"):
        (root / volatile).mkdir(parents=True, exist_ok=True)
        run("mount", "-t", "tmpfs", "-o", "mode=0755", "tmpfs", str(root / volatile))
    (root / "run/libvirtd.conf").write_text(CONFIGURATION)
    shutil.copy(Path(__file__).with_name("libvirt_client.py"), root / "run")
    namespace.run("ip", "tuntap", "add", DEVICE, "mode", "tap")
    namespace.run("ip", "link", "set", DEVICE, "address", f"fe{MAC[2:]}", "up")


def _inside(root: Path, namespace: Namespace, *argv: str) -> list[str]:
    # Not `ip netns exec`: it would mount another /sys, in a mount namespace that the client would not share.
    return ["nsenter", f"--net={namespace.path}", "chroot", str(root), *argv]


def _measure(job: Job, root: Path, namespace: Namespace, pid: int) -> Measured:
    task = {
        "network": job.network,
        "name": NETWORK,
        "filters": job.filters,
        "binding": BINDING,
        "rounds": job.peer_rounds,
        "filter_rounds": job.filter_rounds,
        "seconds": job.seconds,
    }
    return Measured(**json.loads(_client(root, namespace, task)), resident=resident(pid))


def _client(root: Path, namespace: Namespace, task: dict[str, object]) -> str:
    client = _inside(root, namespace, "python3", "/run/libvirt_client.py")
    return run(*client, stdin=json.dumps(task), timeout=600).stdout


def _forward(root: Path, namespace: Namespace, lab: Lab) -> Rates:
    """The same rates as ``forwarding.vnetd_rates``, with a smaller crowd."""
    namespace.run("ip", "link", "add", "bench0", "up", "type", "bridge")
    guests = [lab.guest(namespace, "bench0", f"libvirt{number}", mac) for number, mac in enumerate(MACS)]
    rates = Rates(unfiltered=several(*guests))
    ends = zip(guests, MACS, ADDRESSES, strict=True)
    _client(root, namespace, {"bind": [binding(guest.device, mac, address) for guest, mac, address in ends]})
    rates.alone = several(*guests)
    taps = [f"bench-tap{number}" for number in range(CROWD)]
    for tap in taps:
        namespace.run("ip", "tuntap", "add", tap, "mode", "tap")
        namespace.run("ip", "link", "set", tap, "master", "bench0", "up")
    crowd = [binding(tap, f"52:54:05:00:00:{number:02x}", f"10.99.1.{number}") for number, tap in enumerate(taps)]
    _client(root, namespace, {"bind": crowd})
    rates.beside = several(*guests)
    return rates
