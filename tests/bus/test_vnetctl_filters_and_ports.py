"""``vnetctl filter`` and ``vnetctl port``, over a real bus."""

from support.fake_services import FakeServices, one_of_each
from support.vnetctl import Vnetctl


async def test_filters_are_defined_shown_and_undefined(vnetctl: Vnetctl, services: FakeServices) -> None:
    assert (await vnetctl.ok("filter", "define", "-", stdin='{"name": "block"}')).out == "filter block defined from -\n"
    assert (await vnetctl.ok("filter", "list", "--name")).out == "block\n"
    assert (await vnetctl.ok("filter", "show", "block", "--format", "xml")).out == "xml of block\n"
    assert ["Used", "by:", "-"] in (await vnetctl.ok("filter", "show", "block")).lines
    await vnetctl.ok("filter", "undefine", "block")
    assert services.filters.list() == ()


async def test_a_filter_is_bound_to_a_device_with_parameters(vnetctl: Vnetctl, services: FakeServices) -> None:
    await vnetctl.ok("filter", "define", "-", stdin='{"name": "block"}')
    words = "--parameter IP=192.0.2.1 --parameter IP=192.0.2.2 --parameter MAC=52:54:00:00:00:09"
    await vnetctl.ok("filter", "bind", "tap7", "block", *words.split())
    assert services.world.called("bind") == [
        ("tap7", "block", {"IP": ("192.0.2.1", "192.0.2.2"), "MAC": ("52:54:00:00:00:09",)})
    ]
    line = (await vnetctl.ok("filter", "bindings")).out.splitlines()[1]
    assert line.split()[:2] == ["tap7", "block"]
    assert "IP=192.0.2.1, 192.0.2.2" in line
    assert (await vnetctl.ok("filter", "unbind", "tap7")).out == "filter block unbound from tap7\n"
    assert services.filters.bindings() == ()


async def test_a_filter_is_bound_to_a_port_in_place_of_the_one_it_has(vnetctl: Vnetctl, services: FakeServices) -> None:
    await one_of_each(services)
    (port,) = services.ports.list()
    await vnetctl.ok("filter", "bind", port.device, "block", "--parameter", "IP=192.0.2.1")
    await vnetctl.ok("filter", "unbind", str(port.uuid))
    assert services.world.called("set_filter") == [(port.uuid, "block", {"IP": ("192.0.2.1",)}), (port.uuid, "", {})]
    done = await vnetctl("filter", "unbind", port.device)
    assert done.code == 3


async def test_the_rules_in_force_on_a_device_are_shown_with_their_counts(vnetctl: Vnetctl) -> None:
    done = await vnetctl.ok("filter", "show", "--bound", "tap0")
    assert done.out.splitlines()[1].split() == [
        "network",
        "out",
        "drop",
        "500:",
        "icmp",
        "block",
        "root",
        "3",
        "252",
        "2",
    ]
    (row,) = (await vnetctl.ok("--json", "filter", "show", "--bound", "tap0")).json
    assert (row["rule"], row["packets"], row["bytes"], row["shared"]) == ("out drop 500: icmp", 3, 252, 2)
    assert (await vnetctl("filter", "show", "--bound", "tap1")).code == 3


async def test_a_port_is_attached_listed_shown_and_detached(vnetctl: Vnetctl, services: FakeServices) -> None:
    services.add_networks("lab", "other")
    words = "--veth --netns /run/netns/web --host-device vweb --mtu 1400 --filter clean --parameter IP=192.0.2.1"
    attached = (await vnetctl.ok("--json", "port", "attach", "lab", *words.split())).json
    assert services.world.called("attach") == [
        (
            "lab",
            {
                "kind": "veth",
                "device": "vweb",
                "netns": "/run/netns/web",
                "mtu": 1400,
                "filter": "clean",
                "parameter.IP": ("192.0.2.1",),
            },
        )
    ]
    assert attached["device"] == "vweb" and attached["result"]["mtu"] == 1500
    assert (await vnetctl.ok("port", "list", "--device")).out == "vweb\n"
    assert (await vnetctl.ok("port", "list", "--device", "--network", "other")).out == ""
    assert ["Network:", "lab"] in (await vnetctl.ok("port", "show", "vweb")).lines
    assert (await vnetctl.ok("port", "link", "vweb", "down")).out == "link of port vweb set down\n"
    assert services.world.called("set_link")[0][1:] == (False,)
    assert (await vnetctl.ok("port", "detach", attached["uuid"])).out == "port vweb detached from network lab\n"
    assert services.ports.list() == ()


async def test_a_port_is_moved_limited_and_isolated(vnetctl: Vnetctl, services: FakeServices) -> None:
    await one_of_each(services)
    (port,) = services.ports.list()
    await vnetctl.ok("port", "move", port.device, "other", "--portgroup", "slow")
    await vnetctl.ok("port", "limit", port.device, "--inbound", "4096,,512,0", "--outbound", "100")
    await vnetctl.ok("port", "isolate", str(port.uuid), "on")
    assert services.world.called("move") == [(port.uuid, "other")]
    assert services.world.called("set_port_group") == [(port.uuid, "slow")]
    limits = {"inbound.average": 4096, "inbound.burst": 512, "inbound.floor": 0, "outbound.average": 100}
    assert services.world.called("set_bandwidth") == [(port.uuid, limits)]
    assert services.world.called("set_isolated") == [(port.uuid, True)]
    shown = (await vnetctl.ok("port", "show", port.device)).lines
    assert ["Isolated:", "yes"] in shown and ["Port", "group:", "slow"] in shown
    for wrong in (("move", port.device), ("limit", port.device), ("limit", port.device, "--inbound", "fast")):
        assert (await vnetctl("port", *wrong)).code == 2


async def test_addresses_of_a_port_are_listed(vnetctl: Vnetctl, services: FakeServices) -> None:
    await one_of_each(services)
    (port,) = services.ports.list()
    assert ["192.168.122.7", "ipv4", "lease", "7"] in (await vnetctl.ok("port", "addresses", port.device)).lines
