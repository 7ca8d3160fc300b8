"""The daemon and the command line as the wheel installs them, with the checkout out of their sight."""

import re
from pathlib import Path

import pytest
from support.client import MANAGER, ROOT, Client
from support.daemon import Daemon
from support.netns import Namespace
from support.private_bus import PrivateBus
from support.wheel import Installation, build_wheel, install

import vnetd
from vnetd.xmlcodec.filter_builtin import builtin_filters

pytestmark = pytest.mark.slow
NETWORK = """<network><name>installed</name><forward mode='nat'/><bridge name='virbr0' stp='off'/>
<ip address='192.168.122.1' netmask='255.255.255.0'>
<dhcp><range start='192.168.122.2' end='192.168.122.254'/></dhcp></ip></network>"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    return install(build_wheel(tmp_path_factory.mktemp("build")), tmp_path_factory.mktemp("installed"))


def test_the_programs_come_from_the_wheel_and_say_their_version(installed: Installation) -> None:
    where = installed.run("python", "-c", "import vnetd, vnetctl; print(vnetd.__file__); print(vnetctl.__file__)")
    assert all(line.startswith(f"{installed.directory}/lib/") for line in where.splitlines())
    assert installed.run("vnetd", "--version") == f"vnetd {vnetd.__version__}\n"
    assert vnetd.__version__ in installed.run("vnetctl", "--version")
    for noun in ("network", "filter", "port", "convert", "status", "monitor"):
        assert re.search(rf"^\s+{noun}\b", installed.run("vnetctl", "--help"), re.MULTILINE)


def test_documents_are_converted_by_the_installed_command(installed: Installation, tmp_path: Path) -> None:
    document = tmp_path / "network.xml"
    document.write_text(NETWORK)
    assert '"name": "installed"' in installed.run("vnetctl", "convert", str(document), "--to", "json")


async def test_the_installed_daemon_starts_a_network_and_brings_contracts_and_filters(
    installed: Installation, bus: PrivateBus, root: Path, host_ns: Namespace
) -> None:
    program = (installed.program("vnetd"),)
    with Daemon(host_ns, bus.address, root, program=program):
        async with Client(bus.address) as client:
            await client.start(await client.define_network(NETWORK))
            assert host_ns.link("virbr0") is not None
            introspection = await client.call(ROOT, "org.freedesktop.DBus.Introspectable", "Introspect")
            assert f'interface name="{MANAGER}"' in introspection
            listed = installed.run("vnetctl", "--bus", bus.address, "filter", "list", "--name")
            assert set(builtin_filters()) <= set(listed.split())
            installed.run("vnetctl", "--bus", bus.address, "network", "stop", "installed")
    assert host_ns.link("virbr0") is None
