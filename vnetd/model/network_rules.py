"""What goes with which mode, and other rules between the parts of a network.

The matrix is that of libvirt's network format page and of its define-time checks. Each function raises a breach whose
path is counted from the network.
"""

from typing import TYPE_CHECKING, Final

from vnetd.model.breach import breach
from vnetd.model.network_addressing import check_addressing
from vnetd.model.network_modes import MacvtapMode, Mode
from vnetd.model.network_ports import Bandwidth, VirtualPort

if TYPE_CHECKING:
    from vnetd.model.network import Network

_VIRTUAL_ONLY: Final = (
    ("addresses", 0),
    ("routes", 0),
    ("domain",),
    ("dns", "texts", 0),
    ("dns", "services", 0),
    ("dns", "hosts", 0),
    ("mtu",),
    ("mac",),
    ("bridge", "zone"),
    ("bridge", "stp"),
    ("bridge", "delay"),
    ("bridge", "multicast_snooping"),
)
"""What only networks with a bridge of their own have."""


def check(network: "Network") -> None:
    """Raise the first breach of a rule between the parts of ``network``."""
    check_mode(network)
    check_bridge(network)
    check_devices(network)
    check_addressing(network.mode, network.addresses, network.routes)
    check_bandwidth(network)
    check_portgroups(network)
    check_vlan(network)
    check_forwards(network)


def check_mode(network: "Network") -> None:
    """Parts that some modes do not have."""
    mode = network.mode
    if (mode is Mode.MACVTAP) is not (network.macvtap_mode is not None):
        rule = "is needed with mode macvtap" if mode is Mode.MACVTAP else f"does not go with mode {mode}"
        raise breach(f"a macvtap mode {rule}", "macvtap_mode")
    if network.nat is not None and mode is not Mode.NAT:
        raise breach(f"source translation (nat) goes with mode nat only, this network has mode {mode}", "nat")
    if not mode.has_bridge:
        for path in _VIRTUAL_ONLY:
            if _given(network, path) and not (path == ("addresses", 0) and _has_host_side(network)):
                raise breach(f"a network of mode {mode} cannot have this ({_words(path)})", *path)
    if network.isolated_ports and mode not in {Mode.BRIDGE} and not mode.has_bridge:
        raise breach(f"ports of a network of mode {mode} cannot be isolated", "isolated_ports")
    check_host_access(network)


def check_host_access(network: "Network") -> None:
    """It can be closed where vnetd has the bridge; with macvtap it is closed unless the host gets its own device."""
    mode, wanted = network.mode, network.host_access
    if wanted is False and not mode.has_bridge and mode is not Mode.MACVTAP:
        raise breach(f"access to the host cannot be closed in mode {mode}", "host_access")
    if not (wanted and mode is Mode.MACVTAP):
        return
    if network.macvtap_mode not in {MacvtapMode.BRIDGE, MacvtapMode.VEPA} or not network.devices.interfaces:
        raise breach("the host reaches macvtap guests in modes bridge and vepa, over an interface", "host_access")
    for index, address in enumerate(network.addresses):
        if address.dhcp or address.tftp_root or address.local_ptr is not None:
            raise breach("the host's address beside macvtap guests serves neither DHCP nor DNS", "addresses", index)


def _has_host_side(network: "Network") -> bool:
    return network.mode is Mode.MACVTAP and bool(network.host_access)


def check_bridge(network: "Network") -> None:
    """The bridge's name, where there is a bridge."""
    mode, bridge = network.mode, network.bridge
    if mode is Mode.BRIDGE:
        if bridge.name is None or "%d" in bridge.name:
            raise breach("a network of mode bridge needs the name of an existing bridge", "bridge", "name")
    elif not mode.has_bridge:
        for name in ("name", "mac_table"):
            if getattr(bridge, name) is not None:
                raise breach(f"a network of mode {mode} has no bridge", "bridge", name)


def check_devices(network: "Network") -> None:
    """Which host devices a mode can use, and how many."""
    mode, devices = network.mode, network.devices
    allowed = {
        Mode.NAT: {"interfaces"},
        Mode.ROUTE: {"interfaces"},
        Mode.USER: {"interfaces"},
        Mode.MACVTAP: {"interfaces", "pf"},
        Mode.HOSTDEV: {"pf", "pci", "managed", "driver"},
    }.get(mode, set())
    for name in ("interfaces", "pf", "pci", "managed", "driver"):
        value = getattr(devices, name)
        if value not in (None, ()) and name not in allowed:
            index = (0,) if isinstance(value, tuple) else ()
            raise breach(f"{_DEVICE_WORDS[name]} cannot be used in mode {mode}", "devices", name, *index)
    if mode is not Mode.MACVTAP and len(devices.interfaces) > 1:
        raise breach(f"a network of mode {mode} forwards to one interface at most", "devices", "interfaces", 1)


_DEVICE_WORDS: Final = {
    "interfaces": "an interface to forward to",
    "pf": "a physical function (pf)",
    "pci": "a PCI address",
    "managed": "managed",
    "driver": "a driver",
}


def check_bandwidth(network: "Network") -> None:
    """Limits need a bridge; a floor is a single port's."""
    limits: list[tuple[tuple[str | int, ...], Bandwidth | None]] = [(("bandwidth",), network.bandwidth)]
    limits += [(("portgroups", index, "bandwidth"), one.bandwidth) for index, one in enumerate(network.portgroups)]
    for path, bandwidth in limits:
        if bandwidth is None:
            continue
        if not network.mode.has_bridge and network.mode is not Mode.BRIDGE:
            raise breach(f"bandwidth cannot be limited in mode {network.mode}", *path)
        if bandwidth.inbound and bandwidth.inbound.floor:
            raise breach("a floor is for a single port, not for a network or port group", *path, "inbound", "floor")


def check_portgroups(network: "Network") -> None:
    """Names are unique and one port group at most is the default; the network's own virtual port has a type."""
    if network.virtualport is not None and network.virtualport.type is None:
        raise breach("the virtual port of a network needs a type", "virtualport", "type")
    names: set[str] = set()
    default = ""
    for index, group in enumerate(network.portgroups):
        if group.name in names:
            raise breach(f"port group {group.name} is given twice", "portgroups", index, "name")
        if group.default and default:
            raise breach(f"port group {default} is the default already", "portgroups", index, "default")
        names.add(group.name)
        default = group.name if group.default else default


def check_vlan(network: "Network") -> None:
    """VLANs need a bridge with VLANs, Open vSwitch, or devices that tag by themselves."""
    allowed = _network_takes_vlans(network)
    for index, group in enumerate(network.portgroups):
        if not (group.vlan or network.vlan):
            continue
        own = group.virtualport
        if not (network.mode is Mode.BRIDGE and own.type == "openvswitch" if own else allowed):
            path = ("portgroups", index, "vlan") if group.vlan else ("vlan",)
            raise breach(f"ports of port group {group.name} cannot be on VLANs in mode {_mode(network)}", *path)
    if network.vlan and not allowed and not any(group.default for group in network.portgroups):
        raise breach(f"a network of mode {_mode(network)} cannot have VLANs", "vlan")


def _network_takes_vlans(network: "Network") -> bool:
    if network.mode is Mode.BRIDGE:
        return _is_openvswitch_or_none(network.virtualport)
    return network.mode is Mode.HOSTDEV or network.macvtap_mode is MacvtapMode.PASSTHROUGH


def _is_openvswitch_or_none(virtualport: VirtualPort | None) -> bool:
    return virtualport is None or virtualport.type == "openvswitch"


def _mode(network: "Network") -> str:
    port = f" with virtual port {network.virtualport.type}" if network.virtualport else ""
    return f"{network.mode} {network.macvtap_mode or ''}".strip() + port


def check_forwards(network: "Network") -> None:
    """Port forwards need addresses to forward to, and each port of the host leads to one place."""
    seen: set[tuple[object, ...]] = set()
    for index, forward in enumerate(network.forwards):
        if not network.mode.has_bridge and network.mode is not Mode.USER:
            raise breach(f"a network of mode {network.mode} cannot have port forwards", "forwards", index)
        key = (forward.protocol, forward.listen, forward.address)
        if key in seen:
            text = f"{forward.protocol} port {forward.listen} is forwarded already"
            raise breach(text, "forwards", index, "listen")
        seen.add(key)


def _given(network: "Network", path: tuple[str | int, ...]) -> bool:
    value: object = network
    for part in path:
        if value is None:
            return False
        value = bool(value) if isinstance(part, int) else getattr(value, part)
    return bool(value)


def _words(path: tuple[str | int, ...]) -> str:
    return " ".join(part for part in path if isinstance(part, str))
