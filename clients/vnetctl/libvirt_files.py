"""What libvirt keeps on a system, read without changing anything. Paths: LIBVIRT's own, below a root directory."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vnetctl.errors import CommandError
from vnetctl.files import read_document

NETWORKS, AUTOSTART = "etc/libvirt/qemu/networks", "etc/libvirt/qemu/networks/autostart"
FILTERS, RUNNING, LEASES = "etc/libvirt/nwfilter", "run/libvirt/network", "var/lib/libvirt/dnsmasq"
LEASE_KEYS = {
    "ip-address": "address",
    "mac-address": "mac",
    "hostname": "hostname",
    "client-id": "client_id",
    "expiry-time": "expiry",
    "iaid": "iaid",
    "server-duid": "server_duid",
}
"""libvirt's names of a lease's parts and vnetd's."""


@dataclass(frozen=True, slots=True)
class Document:
    """A file with a definition. ``problem``: why it could not be read; ``text`` is empty then."""

    path: Path
    text: str = ""
    problem: str = ""


def has_files(root: Path) -> bool:
    """Whether libvirt keeps anything below ``root``."""
    return any((root / place).is_dir() for place in (NETWORKS, FILTERS))


def networks(root: Path) -> list[Document]:
    """Definitions of networks, by file name."""
    return list(_documents(root / NETWORKS))


def filters(root: Path) -> list[Document]:
    """Definitions of filters, by file name."""
    return list(_documents(root / FILTERS))


def _documents(directory: Path) -> Iterator[Document]:
    for path in sorted(directory.glob("*.xml")):
        try:
            yield Document(path, read_document(str(path)))
        except CommandError as error:
            yield Document(path, problem=str(error))


def starts_with_host(root: Path, path: Path) -> bool:
    """Whether the network defined in the file ``path`` has an autostart link, dangling or not."""
    return (root / AUTOSTART / path.name).is_symlink() or (root / AUTOSTART / path.name).exists()


def runs(root: Path, path: Path) -> bool:
    """Whether libvirt has that network active."""
    return (root / RUNNING / path.name).exists()


def leases(root: Path, bridge: str, now: float | None = None) -> list[dict[str, Any]]:
    """Leases in force on a bridge, under vnetd's names; what is no lease is left out. Raises ``CommandError``."""
    path = root / LEASES / f"{bridge}.status"
    if "/" in bridge or not path.exists():
        return []
    text = read_document(str(path))
    try:
        rows = json.loads(text) if text.strip() else []
    except ValueError as error:
        raise CommandError(f"{path} is no JSON: {error}") from None
    found = [_lease(row) for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    now = time.time() if now is None else now
    return [lease for lease in found if lease.get("address") and (not lease["expiry"] or lease["expiry"] > now)]


def _lease(row: dict[str, Any]) -> dict[str, Any]:
    kept = {ours: row[theirs] for theirs, ours in LEASE_KEYS.items() if row.get(theirs) not in (None, "")}
    kept = {
        name: value if name == "expiry" else str(value).lower() for name, value in kept.items() if name != "hostname"
    }
    if isinstance(row.get("hostname"), str) and row["hostname"]:
        kept["hostname"] = row["hostname"]
    expiry = kept.get("expiry", 0)
    return {**kept, "expiry": expiry if isinstance(expiry, int) else 0}
