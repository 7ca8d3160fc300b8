"""``vnetctl status`` and ``vnetctl reconcile``."""

from argparse import Namespace
from typing import Any

from vnetctl.grammar import flag, verb
from vnetctl.session import Session, rows

SHOW = (
    ("Daemon", "daemon"),
    ("Networks", "networks"),
    ("Ports", "ports"),
    ("Filters", "filters"),
    ("Healed", "healed"),
    ("Problems", "problems"),
)
CAPABILITIES = (("Capability", "name"), ("Here", "ok"), ("Why not, or what", "reason"))


async def status(session: Session, arguments: Namespace) -> None:
    """The daemon and everything it keeps, at a glance; or what this host can do."""
    if arguments.capabilities:
        await _capabilities(session)
    else:
        await _glance(session)


async def _capabilities(session: Session) -> None:
    found: dict[str, tuple[bool, str]] = await _of_daemon(session, "Capabilities")
    table = [{"name": name, "ok": ok, "reason": reason} for name, (ok, reason) in sorted(found.items())]
    session.output.table(CAPABILITIES, table)


async def _of_daemon(session: Session, name: str) -> Any:
    interface = "org.freedesktop.DBus.Properties"
    return await session.daemon.call("/org/vnetd1", interface, "Get", "ss", "org.vnetd1.Manager", name)


async def _glance(session: Session) -> None:
    import asyncio

    version, networks, ports, filters, bindings = await asyncio.gather(
        _of_daemon(session, "Version"),
        *(rows(session, member) for member in ("ListNetworks", "ListPorts", "ListFilters", "ListBindings")),
    )
    facts = _facts(version, networks, ports, filters, bindings)
    if session.output.as_json:
        session.output.json(facts)
    else:
        session.output.labelled(SHOW, _sentences(facts, session.daemon.label))


def _facts(
    version: str,
    networks: list[dict[str, Any]],
    ports: list[dict[str, Any]],
    filters: list[dict[str, Any]],
    bindings: list[dict[str, Any]],
) -> dict[str, Any]:
    return {
        "version": version,
        "networks": len(networks),
        "active": sum(1 for row in networks if row["active"]),
        "degraded": [row["name"] for row in networks if row["state"] in {"degraded", "failed"}],
        "ports": len(ports),
        "filters": len(filters),
        "bindings": len(bindings),
        "healed": sum(row["healed_count"] for row in networks),
        "problems": {row["name"]: row["problems"] for row in networks if row["problems"]},
    }


def _sentences(facts: dict[str, Any], bus: str) -> dict[str, object]:
    degraded = f", not well: {', '.join(facts['degraded'])}" if facts["degraded"] else ""
    return {
        "daemon": f"vnetd {facts['version']} on the {bus}",
        "networks": f"{facts['networks']}, {facts['active']} active{degraded}",
        "ports": facts["ports"],
        "filters": f"{facts['filters']}, {facts['bindings']} bound to devices of others",
        "healed": facts["healed"],
        "problems": [f"{name}: {problem}" for name, found in facts["problems"].items() for problem in found],
    }


async def reconcile(session: Session, _: Namespace) -> None:
    """Compare everything with the host now and repair it."""
    await session.daemon.manager("Reconcile")
    session.output.done("everything was compared with the host and repaired where it differed", {"reconciled": True})


STATUS = verb(
    "status", status, "show the daemon and what it keeps at a glance",
    flag("--capabilities", "show instead what this host can do, and why not"),
)  # fmt: skip
RECONCILE = verb("reconcile", reconcile, "compare everything with the host now, and repair")
