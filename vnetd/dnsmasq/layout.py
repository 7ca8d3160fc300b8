"""Where the files of a network's dnsmasq lie, relative to the daemon's root directory."""

from pathlib import PurePosixPath

CONFIGURATION = "dnsmasq.conf"
HOSTS = "hosts"
ADDITIONAL_HOSTS = "addnhosts"
SERVERS = "servers"
LEASES = "leases"

DATA_FILES = (HOSTS, ADDITIONAL_HOSTS, SERVERS)
"""Rendered files that dnsmasq reads again on SIGHUP."""


def state_directory(root: str | PurePosixPath, uuid: str) -> str:
    """Directory of the network's hosts, servers and leases; it outlives a reboot."""
    return str(PurePosixPath(root) / "var/lib/vnetd/dnsmasq" / uuid)


def run_directory(root: str | PurePosixPath) -> str:
    """Directory of configuration, pid and state files of all networks; it goes with a reboot."""
    return str(PurePosixPath(root) / "run/vnetd/dnsmasq")
