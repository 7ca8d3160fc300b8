"""What a change would do, without doing it."""

import json
from collections.abc import Sequence
from dataclasses import fields, is_dataclass

from vnetd.model.errors import InUse
from vnetd.plan.dnsmasq import DnsmasqState
from vnetd.plan.network import DesiredNetwork, ForeignLink, KernelStep, ObservedNetwork, Phase, Step, plan
from vnetd.reconcile.borrowed import BorrowedTarget, DesiredBorrowed
from vnetd.reconcile.loop import Loop
from vnetd.service.network_object import NetworkObject


async def preview(loop: Loop, known: NetworkObject | None, desired: DesiredNetwork) -> str:
    """JSON: ``steps`` in order, each with ``phase``, ``what`` and the operation, and ``disturbs_guests``.

    Raises ``InUse`` if the bridge's name is taken by a device vnetd did not make.
    """
    target = known.target if known else None
    assert not isinstance(target, BorrowedTarget)  # a network that runs keeps its kind of mode
    if target:
        observed = await target.observe()
    else:
        view = await loop.host.kernel.view(desired.bridge.name)
        observed = ObservedNetwork(view, {}, None, DnsmasqState(0, None, {}))
    try:
        steps = plan(desired, observed, target.desired if target else None)
    except ForeignLink as error:
        raise InUse(f"bridge {error} exists and is not vnetd's: choose another bridge name") from None
    return _network(desired.uuid, target is not None, steps)


def preview_borrowed(known: NetworkObject | None, desired: DesiredBorrowed) -> str:
    """The same for a network over devices of the host's: at most the host's own device is made."""
    active, side = known is not None and known.active, desired.host_side
    steps: list[Step] = []
    if side and not active:
        steps.append(KernelStep(Phase.LINK, f"device {side.device.name}", side.device))
    return _network(desired.uuid, active, steps)


def document(kind: str, uuid: str, **told: object) -> str:
    """The plan of one network or switch as JSON."""
    return json.dumps({kind: uuid, **told}, indent=2)


def describe(step: Step) -> dict[str, object]:
    """One step as JSON has it."""
    described: dict[str, object] = {"phase": step.phase.name.lower(), "what": step.what}
    if isinstance(step, KernelStep):
        described["operation"] = type(step.operation).__name__
        described["arguments"] = _plain(step.operation)
    else:
        described["operation"] = type(step).__name__
    return described


def _network(uuid: str, active: bool, steps: Sequence[Step]) -> str:
    disturbed = active and any(_disturbs(step) for step in steps)
    return document("network", uuid, active=active, steps=list(map(describe, steps)), disturbs_guests=disturbed)


def _plain(value: object) -> object:
    if isinstance(value, tuple | frozenset):
        return [_plain(item) for item in value]
    if isinstance(value, bytes):
        return value.hex()
    if is_dataclass(value) and not isinstance(value, type):
        given = {field.name: getattr(value, field.name) for field in fields(value)}
        return {name: _plain(one) for name, one in given.items() if one is not None}  # None leaves things as they are
    return value if isinstance(value, (str, int, bool)) or value is None else str(value)


def _disturbs(step: Step) -> bool:
    """Guests notice a bridge that is made anew or loses an address; not rules, files, a new address, or whether
    multicast is snooped.
    """
    return isinstance(step, KernelStep) and type(step.operation).__name__ in {
        "CreateBridge",
        "DeleteAddress",
        "DeleteRoute",
        "SetLink",
    }
