"""``vnetctl status`` and ``vnetctl reconcile``."""

from argparse import Namespace
from typing import Any

from vnetctl.session import Session, rows

SHOW = (
    ("Daemon", "daemon"),
    ("Networks", "networks"),
    ("Ports", "ports"),
    ("Filters", "filters"),
    ("Healed", "healed"),
    ("Problems", "problems"),
    ("Capabilities", "capabilities"),
)


async def status(session: Session, _: Namespace) -> None:
    """The daemon and everything it keeps, at a glance."""
    import asyncio

    manager, networks, ports, filters, bindings = await asyncio.gather(
        session.daemon.get_all("/org/vnetd1", "org.vnetd1.Manager"),
        *(rows(session, member) for member in ("ListNetworks", "ListPorts", "ListFilters", "ListBindings")),
    )
    facts = _facts(manager, networks, ports, filters, bindings)
    if session.output.as_json:
        session.output.json(facts)
    else:
        session.output.labelled(SHOW, _sentences(facts, session.daemon.label))


def _facts(
    manager: dict[str, Any],
    networks: list[dict[str, Any]],
    ports: list[dict[str, Any]],
    filters: list[dict[str, Any]],
    bindings: list[dict[str, Any]],
) -> dict[str, Any]:
    return {
        "version": manager["Version"],
        "networks": len(networks),
        "active": sum(1 for row in networks if row["active"]),
        "degraded": [row["name"] for row in networks if row["state"] in {"degraded", "failed"}],
        "ports": len(ports),
        "filters": len(filters),
        "bindings": len(bindings),
        "healed": sum(row["healed_count"] for row in networks),
        "problems": {row["name"]: row["problems"] for row in networks if row["problems"]},
        "capabilities": manager["Capabilities"],
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
        "capabilities": dict(sorted(facts["capabilities"].items())),
    }


async def reconcile(session: Session, _: Namespace) -> None:
    """Compare everything with the host now and repair it."""
    await session.daemon.manager("Reconcile")
    session.output.done("everything was compared with the host and repaired where it differed", {"reconciled": True})
