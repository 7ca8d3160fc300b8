"""dnsmasq's lease database as it is found on disk."""

from dataclasses import replace
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vnetd.dnsmasq.leases import changes, mac_of_duid, parse

TEXT = (
    "1700000000 52:54:00:11:22:33 192.168.122.50 guest1 01:52:54:00:11:22:33\n"
    "0 52:54:00:11:22:34 192.168.122.51 * *\n"
    "1700000001 06-aa:bb 192.168.122.52 * ff:00\n"
    "duid 00:01:00:01:2c:aa:bb:cc:52:54:00:00:00:01\n"
    "1700000002 1122867 fd00::22 six 00:01:00:01:2c:11:22:33:52:54:00:44:55:66\n"
    "1700000003 T7 fd00::23 * 00:02:00:00:ab:11:01:02\n"
)


def test_leases_of_both_families_are_read_with_what_is_known_of_each() -> None:
    parsed = parse(TEXT)
    assert parsed is not None
    first, second, third, fourth, fifth = parsed
    assert (str(first.address), first.family, first.expiry) == ("192.168.122.50", "ipv4", 1700000000)
    assert (first.mac, first.hostname, first.client_id) == ("52:54:00:11:22:33", "guest1", "01:52:54:00:11:22:33")
    assert (second.expiry, second.hostname, second.client_id) == (0, "", "")
    assert third.mac == "aa:bb"
    assert (fourth.address, fourth.family, fourth.iaid) == (ip_address("fd00::22"), "ipv6", "1122867")
    assert (fourth.mac, fourth.hostname) == ("52:54:00:44:55:66", "six")
    assert fourth.server_duid == "00:01:00:01:2c:aa:bb:cc:52:54:00:00:00:01"
    assert (fifth.mac, fifth.iaid) == ("", "T7")


def test_an_empty_database_holds_no_leases() -> None:
    assert parse("") == ()


@pytest.mark.parametrize("size", range(1, len(TEXT)))
def test_a_text_cut_within_a_line_is_recognised(size: int) -> None:
    assert (parse(TEXT[:size]) is None) == (TEXT[size - 1] != "\n")


def test_nonsense_of_another_hand_is_left_out() -> None:
    parsed = parse("hello\nx y z a b\n1 2 not-an-address * *\n\n² 52:54:00:11:22:34 10.0.0.1 * *\n" + TEXT)
    assert parsed == parse(TEXT)


@given(st.text())
def test_no_text_is_too_strange(text: str) -> None:
    parsed = parse(text)
    assert parsed is None or all(lease.family in {"ipv4", "ipv6"} for lease in parsed)


def test_the_mac_is_found_in_duids_that_hold_one() -> None:
    assert mac_of_duid("00:01:00:01:2c:11:22:33:52:54:00:44:55:66") == "52:54:00:44:55:66"
    assert mac_of_duid("00:03:00:01:52:54:00:44:55:66") == "52:54:00:44:55:66"
    for without in ("", "*", "00:02:00:00:ab:11", "00:03:00:06:52:54:00:44:55:66", "00:03:00:01:52:54", "zz"):
        assert mac_of_duid(without) == ""


def test_a_renewal_is_no_change_of_presence() -> None:
    before = parse(TEXT) or ()
    renewed = tuple(replace(lease, expiry=lease.expiry + 3600) for lease in before)
    assert changes(before, renewed) == ((), ())


def test_leases_that_come_go_and_change_hands_are_told() -> None:
    first, second, *rest = parse(TEXT) or ()
    taken_over = replace(second, mac="52:54:00:99:99:99")
    added, removed = changes((first, second), (taken_over, *rest))
    assert set(added) == {taken_over, *rest}
    assert set(removed) == {first, second}


def test_a_lease_holds_until_it_expires_or_for_ever() -> None:
    first, second, *_ = parse(TEXT) or ()
    assert first.is_current(first.expiry - 1)
    assert not first.is_current(first.expiry)
    assert second.is_current(2**40)
