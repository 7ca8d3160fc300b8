"""What is learned of a guest's addresses, and from whom it is not."""

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

import pytest

from vnetd.model.errors import Invalid
from vnetd.model.network import Network
from vnetd.packets.sightings import Claimed, Defended, Given, Released, Sighting, Used
from vnetd.service.lessons import (
    MOST,
    NOWHERE,
    Learned,
    Mode,
    Pupil,
    Site,
    after,
    current,
    mode_of,
    servers_of,
    with_mac,
)
from vnetd.service.site import site_of

MAC = "52:54:00:00:00:61"
SERVER, OTHER = IPv4Address("192.168.77.1"), IPv4Address("192.168.77.2")
ONE, TWO = IPv4Address("192.168.77.50"), IPv4Address("192.168.77.51")
PREFIX = IPv6Network("fd77::/64")
LINK_LOCAL = IPv6Address("fe80::5054:ff:fe00:61")
NOW = 1_000_000


def pupil(mode: Mode = Mode.DHCP, *families: int, servers: tuple[str, ...] = (), site: Site = NOWHERE) -> Pupil:
    return Pupil(MAC, mode, frozenset(families or (4, 6)), frozenset(map(ip_address, servers)), site)


def given(address: IPv4Address = ONE, seconds: int | None = 60, server: IPv4Address = SERVER, mac: str = MAC) -> Given:
    return Given(address, seconds, server, mac)


def taught(who: Pupil, *seen: Sighting, traffic: bool = True) -> Learned:
    learned: Learned = ()
    for one in seen:
        learned = after(learned, one, who, NOW, traffic=traffic)
    return learned


def addresses(learned: Learned) -> list[str]:
    return [str(one.address) for one in learned]


def test_all_leases_count_not_only_the_first() -> None:
    learned = taught(pupil(), given(ONE), given(TWO))
    assert addresses(learned) == [str(ONE), str(TWO)]


def test_a_renewal_moves_the_expiry_and_expiry_ends_an_address() -> None:
    learned = taught(pupil(), given(seconds=60), given(seconds=90))
    assert [one.expires for one in learned] == [NOW + 90]
    assert current(learned, NOW + 89) is learned
    assert current(learned, NOW + 90) == ()
    assert current(taught(pupil(), given(seconds=None)), NOW * 100)


def test_a_release_ends_an_address_but_not_one_of_another_client() -> None:
    assert taught(pupil(), given(), Released(ONE, MAC)) == ()
    assert addresses(taught(pupil(), given(), Released(ONE, "52:54:00:00:00:99"))) == [str(ONE)]


@pytest.mark.parametrize(
    ("who", "seen"),
    [
        (pupil(), given(mac="52:54:00:00:00:99")),
        (pupil(servers=("192.168.77.1",)), given(server=OTHER)),
        (pupil(Mode.DHCP, 6), given()),
        (pupil(), given(seconds=0)),
        (pupil(), Used(ONE)),
        (pupil(Mode.ANY, 6), Used(ONE)),
        (pupil(Mode.DHCP, 4), Claimed(IPv6Address("fd77::5"))),
        (pupil(site=Site(prefixes=(PREFIX,))), Claimed(IPv6Address("2001:db8::5"))),
        (pupil(site=Site(taken=frozenset({IPv6Address("fd77::1")}))), Claimed(IPv6Address("fd77::1"))),
        (pupil(), Given(IPv6Address("fd77::5"), 60, IPv6Address("fe80::1"), IPv6Address("fe80::99"))),
    ],
)
def test_nothing_is_learned_from(who: Pupil, seen: Sighting) -> None:
    assert taught(who, seen) == ()


@pytest.mark.parametrize(
    ("who", "seen"),
    [
        (pupil(servers=("192.168.77.1",)), given()),
        (pupil(Mode.ANY), Used(ONE)),
        (pupil(Mode.ANY), given()),
        (pupil(site=Site(prefixes=(PREFIX,))), Claimed(IPv6Address("fd77::5"))),
        (pupil(site=Site(prefixes=(PREFIX,))), Claimed(IPv6Address("fe80::5"))),
        (pupil(), Given(IPv6Address("fd77::5"), 60, IPv6Address("fe80::1"), LINK_LOCAL)),
    ],
)
def test_an_address_is_learned_from(who: Pupil, seen: Sighting) -> None:
    assert len(taught(who, seen)) == 1


def test_traffic_teaches_a_few_addresses_for_a_while() -> None:
    many = [Used(IPv4Address(int(ONE) + number)) for number in range(9)]
    assert len(taught(pupil(Mode.ANY), *many)) == MOST["use"]
    assert taught(pupil(Mode.ANY), *many, traffic=False) == ()


def test_who_defends_an_address_keeps_it_and_who_claims_too_many_loses_the_oldest() -> None:
    claims = [Claimed(IPv6Address(f"fd77::{number:x}")) for number in range(1, 100)]
    learned = taught(pupil(), *claims)
    assert (len(learned), learned[-1].address) == (MOST["claim"], IPv6Address("fd77::63"))
    assert taught(pupil(), claims[0], Defended(claims[0].address)) == ()


def test_a_guest_has_the_addresses_made_of_its_mac_and_those_of_the_document() -> None:
    site = Site(hosts=(ONE,), prefixes=(PREFIX,))
    who = pupil(site=site)
    assert who.addresses((), 4) == (ONE,)
    assert set(who.addresses((), 6)) == {LINK_LOCAL, with_mac(PREFIX, MAC)}


def test_a_networks_fixed_hosts_are_a_guests_or_anothers() -> None:
    hosts = [
        {"mac": "52:54:0:0:0:61", "address": str(ONE)},
        {"mac": "52:54:00:00:00:62", "address": str(TWO)},
        {"name": "web", "address": "192.168.77.60"},
    ]
    hosts6 = [{"id": "0:3:0:1:52:54:00:00:00:61", "address": "fd77::50"}, {"id": "0:4:1:2", "address": "fd77::51"}]
    network = Network.model_validate(
        {
            "name": "lab",
            "mode": "nat",
            "addresses": [
                {"address": "192.168.77.1/24", "dhcp": {"hosts": hosts}},
                {"address": "fd77::1/64", "dhcp": {"hosts": hosts6}},
            ],
        }
    )
    site = site_of(network, MAC)
    assert site.hosts == (ONE, IPv6Address("fd77::50"))
    assert site.taken == {TWO, SERVER, IPv6Address("fd77::1")}
    assert site.prefixes == (PREFIX,)


def test_modes_and_servers_are_checked() -> None:
    assert mode_of({}, Mode.ANY) is Mode.ANY
    assert mode_of({"CTRL_IP_LEARNING": ("dhcp",)}, Mode.ANY) is Mode.DHCP
    for wrong in (("arp",), ("any", "dhcp")):
        with pytest.raises(Invalid, match=r"CTRL_IP_LEARNING.*none, any and dhcp"):
            mode_of({"CTRL_IP_LEARNING": wrong}, Mode.ANY)
    with pytest.raises(Invalid, match="DHCPSERVER"):
        servers_of({"DHCPSERVER": ("here",)})
