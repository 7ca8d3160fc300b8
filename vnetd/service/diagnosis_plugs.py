"""What stands between the guest of a port without a bridge and the world: its lower device, its card, its passt."""

from collections.abc import AsyncIterator

from vnetd.host.protocols import Host
from vnetd.model.functions import FunctionUse
from vnetd.plan.macvtap import Stacked
from vnetd.plan.passt import PasstInstance
from vnetd.service.port_object import PortObject
from vnetd.service.views import Finding


async def of_plug(host: Host, port: PortObject) -> AsyncIterator[Finding]:
    """How the port of a network without a bridge is; nothing of a device that is wholly in its guest's namespace."""
    match port.target.desired.plug:
        case Stacked(lower=lower):
            yield await _of_link(host, port.name)
            yield await _of_link(host, lower)
        case FunctionUse(pf=pf, vf=vf):
            there = vf in await host.kernel.functions(pf)
            words = "is there" if there else "is not there"
            yield Finding("function", "ok" if there else "problem", f"virtual function {vf} of {pf} {words}")
            yield await _of_link(host, pf)  # while it is down no function carries anything
        case PasstInstance() as instance:
            serves = await host.passt.serves(instance)
            words = "serves" if serves else "does not run as it should"
            yield Finding("passt", "ok" if serves else "problem", f"passt of port {port.name} {words}")


async def _of_link(host: Host, name: str) -> Finding:
    link = await host.kernel.link(name)
    if link is None:
        return Finding("device", "problem", f"there is no network device {name}")
    return Finding("device", "ok" if link.up else "problem", f"device {name} is {'up' if link.up else 'down'}")
