"""``vnetctl status`` and ``vnetctl reconcile``."""

from argparse import Namespace
from typing import Any

from vnetctl.grammar import flag, verb
from vnetctl.output import Row
from vnetctl.session import Session, rows

SHOW = (
    ("Daemon", "daemon"),
    ("Networks", "networks"),
    ("Switches", "switches"),
    ("Ports", "ports"),
    ("Filters", "filters"),
    ("Healed", "healed"),
    ("Problems", "problems"),
)
KINDS = ("networks", "switches", "ports", "filters", "bindings")
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

    version, *found = await asyncio.gather(
        _of_daemon(session, "Version"), *(rows(session, f"List{kind.capitalize()}") for kind in KINDS)
    )
    facts = _facts(version, dict(zip(KINDS, found, strict=True)))
    if session.output.as_json:
        session.output.json(facts)
    else:
        session.output.labelled(SHOW, _sentences(facts, session.daemon.label))


def _facts(version: str, listed: dict[str, list[Row]]) -> dict[str, Any]:
    networks, switches = listed["networks"], listed["switches"]
    kept = [*networks, *switches]
    return {
        "version": version,
        **{kind: len(found) for kind, found in listed.items()},
        "active": _active(networks),
        "active_switches": _active(switches),
        "unconfirmed": [row["name"] for row in switches if row["unconfirmed"]],
        "degraded": _unwell(networks),
        "degraded_switches": _unwell(switches),
        "healed": sum(row["healed_count"] for row in kept),
        "problems": {row["name"]: row["problems"] for row in networks if row["problems"]},
        "problems_of_switches": {row["name"]: row["problems"] for row in switches if row["problems"]},
    }


def _active(found: list[Row]) -> int:
    return sum(1 for row in found if row["active"])


def _unwell(found: list[Row]) -> list[str]:
    return [str(row["name"]) for row in found if row["state"] in {"degraded", "failed"}]


def _sentences(facts: dict[str, Any], bus: str) -> dict[str, object]:
    waiting = f", to be confirmed: {', '.join(facts['unconfirmed'])}" if facts["unconfirmed"] else ""
    problems = [*facts["problems"].items(), *facts["problems_of_switches"].items()]
    return {
        "daemon": f"vnetd {facts['version']} on the {bus}",
        "networks": _state(facts["networks"], facts["active"], facts["degraded"]),
        "switches": _state(facts["switches"], facts["active_switches"], facts["degraded_switches"]) + waiting,
        "ports": facts["ports"],
        "filters": f"{facts['filters']}, {facts['bindings']} bound to devices of others",
        "healed": facts["healed"],
        "problems": [f"{name}: {problem}" for name, found in problems for problem in found],
    }


def _state(number: int, active: int, degraded: list[str]) -> str:
    return f"{number}, {active} active" + (f", not well: {', '.join(degraded)}" if degraded else "")


async def reconcile(session: Session, _: Namespace) -> None:
    """Compare everything with the host now and repair it."""
    await session.daemon.manager("Reconcile")
    session.output.done("everything was compared with the host and repaired where it differed", {"reconciled": True})


STATUS = verb(
    "status", status, "show the daemon and what it keeps at a glance",
    flag("--capabilities", "show instead what this host can do, and why not"),
)  # fmt: skip
RECONCILE = verb("reconcile", reconcile, "compare everything with the host now, and repair")
