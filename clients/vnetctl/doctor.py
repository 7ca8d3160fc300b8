"""``vnetctl doctor``: what stands between a guest and somebody else."""

from argparse import Namespace
from typing import Any

from vnetctl.errors import CommandError
from vnetctl.grammar import OneOf, argument, flag, verb
from vnetctl.session import Session, rows

TABLE = (("Target", "target"), ("Check", "check"), ("State", "state"), ("Found", "text"))


async def doctor(session: Session, arguments: Namespace) -> None:
    """Check one port, device or network, or all of them; fails if there is a problem."""
    from vnetctl.connection import options

    probe = options(_probe(arguments))
    found: list[dict[str, Any]] = []
    for target in await _targets(session, arguments.target):
        findings = await session.daemon.manager("Examine", "sa{sv}", target, probe)
        found += [{"target": target, **one} for one in findings]
    session.output.table(TABLE, found)
    problems = sum(one["state"] == "problem" for one in found)
    if problems:
        raise CommandError(f"{problems} {'problem' if problems == 1 else 'problems'} found")


async def _targets(session: Session, target: str | None) -> list[str]:
    if target is not None:
        return [target]
    networks = [str(row["name"]) for row in await rows(session, "ListNetworks") if row["active"]]
    ports = [str(row["uuid"]) for row in await rows(session, "ListPorts")]
    return [*networks, *ports]


def _probe(arguments: Namespace) -> dict[str, str | int]:
    ends = {"to": arguments.to, "from": arguments.from_}
    probe: dict[str, str | int] = {name: address for name, address in ends.items() if address is not None}
    asked = {"tcp": arguments.tcp, "udp": arguments.udp}
    for protocol, port in asked.items():
        if port is not None:
            probe |= {"protocol": protocol, "port": port}
    if arguments.icmp:
        probe["protocol"] = "icmp"
    return probe


DOCTOR = verb(
    "doctor", doctor, "find what keeps packets of a guest from passing",
    argument("target", nargs="?", metavar="TARGET", help="port, device with a filter, or network (all)"),
    OneOf(
        [
            argument("--to", metavar="ADDRESS", help="whom the guest wants to reach"),
            argument("--from", dest="from_", metavar="ADDRESS", help="who wants to reach the guest"),
        ]
    ),
    OneOf(
        [
            argument("--tcp", type=int, metavar="PORT", help="by TCP at that port"),
            argument("--udp", type=int, metavar="PORT", help="by UDP at that port"),
            flag("--icmp", "by ping (as without)"),
        ]
    ),
)  # fmt: skip
