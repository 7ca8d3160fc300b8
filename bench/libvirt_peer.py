"""libvirt of Debian 13, from a root directory of its own, in a namespace of its own."""

import json
import shutil
import subprocess
from pathlib import Path

from support.netns import Lab, Namespace, run
from support.waiting import wait_until

from bench.job import BINDING, DEVICE, MAC, NETWORK, Job, Measured
from bench.process import resident

CONFIGURATION = """auth_unix_rw = "none"
unix_sock_dir = "/run/libvirt"
log_outputs = "3:stderr"
"""


def measure(job: Job, root: Path, lab: Lab) -> Measured:
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
            return _measure(job, root, namespace, daemon.pid)
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
    client = _inside(root, namespace, "python3", "/run/libvirt_client.py")
    result = json.loads(run(*client, stdin=json.dumps(task), timeout=600).stdout)
    return Measured(**result, resident=resident(pid))
