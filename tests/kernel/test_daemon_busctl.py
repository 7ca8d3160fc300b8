"""The whole main job by busctl alone: what any program on the host can do, with nothing of vnetd's own."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import pytest
from support.netns import Guest, Lab
from support.private_bus import NOBODY
from support.site import Administrator, Site
from support.traffic import reaches, serving
from support.waiting import SILENCE, wait_until

GOLDEN = Path(__file__).parent.parent / "golden"
DEFAULT = (GOLDEN / "network" / "default.xml").read_text()
BLOCKICMP = (GOLDEN / "filter" / "documents" / "filter-blockicmp.xml").read_text()
MANAGER = ("org.vnetd1", "/org/vnetd1", "org.vnetd1.Manager")
SETS = """<filter name='sets'><rule action='drop' direction='in'><all ipset='bad' ipsetflags='src'/></rule></filter>"""


class Failed(AssertionError):
    """busctl ended with an error; the message is what it printed."""


class Busctl:
    """busctl on the bus of a site."""

    def __init__(self, site: Site) -> None:
        self._bus = site.bus

    def __call__(self, *arguments: str, uid: int = 0) -> Any:
        """Run it and return the values it printed: none, one, or a list."""
        done = self._bus.busctl("--json=short", *arguments, uid=uid)
        if done.returncode:
            raise Failed(done.stderr.strip())
        data = json.loads(done.stdout)["data"] if done.stdout.strip() else None
        return data[0] if isinstance(data, list) and len(data) == 1 and arguments[0] == "call" else data

    def manager(self, member: str, *arguments: str, uid: int = 0) -> Any:
        """Call the manager."""
        return self("call", *MANAGER, member, *arguments, uid=uid)

    def on(self, path: str, interface: str, member: str, *arguments: str, uid: int = 0) -> Any:
        """Call an object."""
        return self("call", "org.vnetd1", path, f"org.vnetd1.{interface}", member, *arguments, uid=uid)

    def property(self, path: str, interface: str, name: str) -> Any:
        """A property."""
        return self("get-property", "org.vnetd1", path, f"org.vnetd1.{interface}", name)

    def introspect(self, path: str) -> set[str]:
        """Names of the interfaces at a path."""
        shown = self._bus.busctl("introspect", "--xml-interface", "org.vnetd1", path).stdout
        return {line.split('"')[1] for line in shown.splitlines() if "<interface" in line}


@pytest.fixture
def busctl(admin: Administrator) -> Busctl:
    """busctl; what is left of the test is cleared away as ever."""
    return Busctl(admin.site)


@pytest.fixture
def errors(shared_site: Site, tmp_path: Path) -> Iterator[Any]:
    """Call it for the next of the names of the errors the daemon answered with."""
    heard = tmp_path / "heard"
    command = ("busctl", f"--address={shared_site.bus.address}", "--json=short", "monitor", "org.vnetd1")
    with heard.open("w") as output:
        monitor = subprocess.Popen(command, stdout=output, stderr=subprocess.DEVNULL)
    ping = ("call", "org.vnetd1", "/org/vnetd1", "org.freedesktop.DBus.Peer", "Ping")
    # Newer ones do not say from when on they listen.
    wait_until(lambda: shared_site.bus.busctl(*ping) and heard.stat().st_size, "the monitor listens")
    with heard.open() as lines:
        yield lambda: wait_until(lambda: next_error(lines), "an error is heard")
    monitor.kill()
    monitor.wait()


def next_error(lines: TextIO) -> str:
    """The name of the next error on the bus, "" if there has been none yet."""
    while True:
        start = lines.tell()
        line = lines.readline()
        if not line.endswith("\n"):
            lines.seek(start)
            return ""
        message = json.loads(line)
        if message["type"] == "error":
            return str(message.get("error_name") or message)


def values(entry: dict[str, Any]) -> dict[str, Any]:
    """A dictionary without its variants."""
    return {key: value["data"] for key, value in entry.items()}


def test_a_guest_gets_its_network_its_lease_and_its_filter_by_busctl_alone(
    busctl: Busctl, admin: Administrator
) -> None:
    site = admin.site
    network = started_default(busctl)
    guest = admin.vacant_guest()
    port, device = attached(busctl, guest)
    address = guest.lease(timeout=30)  # the document has STP on
    assert guest.ping(site.outside.ipv4)
    (lease,) = busctl.on(network, "Network", "GetLeases", "a{sv}", "0")
    assert values(lease)["address"] == address
    with serving(guest, "tcp:22"):
        filtered_and_not(busctl, site, port, device, address)
    busctl("set-property", "org.vnetd1", network, "org.vnetd1.Network", "Autostart", "b", "true")
    assert busctl.property(network, "Network", "Autostart") is True
    healed(busctl, site, network)
    assert "<name>default</name>" in busctl.on(network, "Network", "Describe", "sa{sv}", "xml", "0")
    assert json.loads(busctl.on(network, "Network", "Describe", "sa{sv}", "json", "0"))["name"] == "default"
    busctl.on(port, "Port", "Detach")
    assert device not in site.devices()
    busctl.on(network, "Network", "Stop")
    assert not site.leftovers()
    busctl.on(network, "Network", "Undefine")
    assert busctl.manager("ListNetworks", "a{sv}", "0") == []


def started_default(busctl: Busctl) -> str:
    """Define and start libvirt's own default network."""
    network = str(busctl.manager("DefineNetwork", "sa{sv}", DEFAULT, "0"))
    assert busctl.property(network, "Network", "State") == "inactive"
    busctl.on(network, "Network", "Start")
    assert busctl.property(network, "Network", "State") == "active"
    assert busctl.property(network, "Network", "Bridge") == "virbr0"
    assert busctl.property(network, "Network", "Addresses") == ["192.168.122.1/24"]
    assert busctl.manager("GetNetwork", "s", "default") == network
    (listed,) = map(values, busctl.manager("ListNetworks", "a{sv}", "0"))
    assert (listed["name"], listed["path"], listed["state"]) == ("default", network, "active")
    return network


def attached(busctl: Busctl, guest: Guest) -> tuple[str, str]:
    """Attach a guest; returns the port's path and device."""
    spec = ("3", "kind", "s", "veth", "netns", "s", guest.path, "mac", "s", "52:54:00:00:00:71")
    port, result = busctl.manager("Attach", "sa{sv}", "default", *spec)
    device = values(result)["device"]
    assert busctl.property(port, "Port", "Device") == device
    (listed,) = map(values, busctl.manager("ListPorts", "a{sv}", "0"))
    assert (listed["path"], listed["mac"]) == (port, "52:54:00:00:00:71")
    return port, device


def filtered_and_not(busctl: Busctl, site: Site, port: str, device: str, address: str) -> None:
    """Put blockicmp on a port and take it away again."""
    filter = busctl.manager("DefineFilter", "sa{sv}", BLOCKICMP, "0")
    assert site.host.ping(address)
    busctl.on(port, "Port", "SetFilter", "sa{sv}", "blockicmp", "0")
    assert not site.host.ping(address, wait=SILENCE)
    assert reaches(site.host, address, 22)
    assert busctl.property(filter, "Filter", "UsedBy") == [device]
    busctl.on(port, "Port", "SetFilter", "sa{sv}", "", "0")
    assert site.host.ping(address)
    busctl.on(filter, "Filter", "Undefine")


def healed(busctl: Busctl, site: Site, network: str) -> None:
    """Break something and see it counted."""
    site.host.run("ip", "address", "flush", "dev", "virbr0")
    wait_until(lambda: busctl.property(network, "Network", "HealedCount"), "it heals")
    busctl.manager("Reconcile")
    assert busctl.property(network, "Network", "Problems") == []


def test_a_strangers_port_is_bound_and_unbound_by_busctl(busctl: Busctl, admin: Administrator, lab: Lab) -> None:
    site = admin.site
    network = busctl.manager("CreateNetwork", "sa{sv}", '{"name": "n", "addresses": [{"address": "10.7.0.1/24"}]}', "0")
    guest: Guest = lab.guest(site.host, "virbr0")
    guest.run("ip", "address", "add", "10.7.0.2/24", "dev", "eth0")
    busctl.manager("DefineFilter", "sa{sv}", BLOCKICMP, "0")
    assert site.host.ping("10.7.0.2")
    binding = busctl.manager("BindFilter", "ssa{sv}", guest.device, "blockicmp", "1", "IP", "as", "1", "10.7.0.2")
    assert not site.host.ping("10.7.0.2", wait=SILENCE)
    (listed,) = busctl.manager("ListBindings", "a{sv}", "0")
    assert values(listed)["path"] == binding
    busctl.on(binding, "Binding", "Delete")
    assert site.host.ping("10.7.0.2")
    busctl.on(network, "Network", "Stop")
    assert busctl.manager("ListNetworks", "a{sv}", "0") == []
    site.host.run("ip", "link", "delete", guest.device)


def test_the_objects_are_found_by_introspection(busctl: Busctl) -> None:
    network = busctl.manager("DefineNetwork", "sa{sv}", DEFAULT, "0")
    assert {"org.vnetd1.Manager", "org.freedesktop.DBus.ObjectManager"} <= busctl.introspect("/org/vnetd1")
    assert {"org.vnetd1.Network", "org.freedesktop.DBus.Properties"} <= busctl.introspect(network)
    assert busctl.property("/org/vnetd1", "Manager", "Version")
    busctl("call", "org.vnetd1", "/org/vnetd1", "org.freedesktop.DBus.ObjectManager", "GetManagedObjects")


def test_errors_are_named_and_say_what_to_do(busctl: Busctl, errors: Any, admin: Administrator) -> None:
    network = busctl.manager("DefineNetwork", "sa{sv}", DEFAULT, "0")
    cases: list[tuple[str, str, tuple[str, ...]]] = [
        ("NotFound", "nowhere", ("GetNetwork", "s", "nowhere")),
        ("Exists", "default", ("DefineNetwork", "sa{sv}", DEFAULT, "0")),
        ("Invalid", "colour", ("DefineNetwork", "sa{sv}", "<network><name>n</name><colour/></network>", "0")),
        ("Invalid", "frobnicate", ("ListNetworks", "a{sv}", "1", "frobnicate", "b", "true")),
        ("Busy", "start it first", ("Attach", "sa{sv}", "default", "1", "kind", "s", "tap")),
        ("Unsupported", "ipset", ("BindFilter", "ssa{sv}", "eth7", "sets", "0")),
    ]
    busctl.manager("DefineFilter", "sa{sv}", SETS, "0")
    for name, sentence, arguments in cases:
        with pytest.raises(Failed, match=sentence):
            busctl.manager(*arguments)
        assert errors() == f"org.vnetd1.Error.{name}"
    busctl.on(network, "Network", "Start")
    rival = '{"name": "rival", "addresses": [{"address": "192.168.122.77/24"}]}'
    with pytest.raises(Failed, match="virbr0"):
        busctl.manager("CreateNetwork", "sa{sv}", rival, "0")
    assert errors() == "org.vnetd1.Error.InUse"
    assert admin.site.devices() == {"virbr0"}


def test_everybody_may_read_and_only_root_and_the_group_may_change(busctl: Busctl, errors: Any) -> None:
    network = busctl.manager("DefineNetwork", "sa{sv}", DEFAULT, "0")
    (listed,) = busctl.manager("ListNetworks", "a{sv}", "0", uid=NOBODY)
    assert values(listed)["path"] == network
    with pytest.raises(Failed):
        busctl.on(network, "Network", "Start", uid=NOBODY)
    assert errors() == "org.vnetd1.Error.Denied"
    assert busctl.property(network, "Network", "State") == "inactive"
