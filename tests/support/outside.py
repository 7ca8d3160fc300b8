"""The world beyond a host: an uplink with default routes of both families, and a host that answers at its end."""

from dataclasses import dataclass

from support.netns import Lab, Namespace, run

UPLINK = "uplink0"


@dataclass(frozen=True, slots=True)
class Outside(Namespace):
    """A host outside, reachable from the host it was made for. It knows no route back to any guest."""

    ipv4: str = "203.0.113.1"
    ipv6: str = "2001:db8:113::1"
    host_ipv4: str = "203.0.113.2"
    host_ipv6: str = "2001:db8:113::2"

    def route_back(self, subnet: str) -> None:
        """Teach it that ``subnet`` lies behind the host, as a real network's router would be taught."""
        via = self.host_ipv6 if ":" in subnet else self.host_ipv4
        self.run("ip", "route", "replace", subnet, "via", via)


def outside_of(lab: Lab, host: Namespace) -> Outside:
    """Connect ``host`` by its device ``uplink0`` to a host outside and route everything there."""
    outside = Outside(lab.namespace("outside").name)
    lab.veth(host, UPLINK, outside, "eth0")
    _configure(host, UPLINK, outside.host_ipv4, outside.host_ipv6)
    _configure(outside, "eth0", outside.ipv4, outside.ipv6)
    run("ip", "-netns", host.name, "route", "add", "default", "via", outside.ipv4)
    run("ip", "-netns", host.name, "route", "add", "default", "via", outside.ipv6)
    return outside


def _configure(where: Namespace, device: str, ipv4: str, ipv6: str) -> None:
    # Without nodad the IPv6 address would be unusable for the first second.
    run("ip", "-netns", where.name, "address", "add", f"{ipv4}/24", "dev", device)
    run("ip", "-netns", where.name, "address", "add", f"{ipv6}/64", "dev", device, "nodad")
    run("ip", "-netns", where.name, "link", "set", device, "up")
