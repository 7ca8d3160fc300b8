"""vnetd with the virtual functions of a network card, an emulated Intel 82576. ``function_facts`` says how each was
found.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from support.machine import CARD, IN_INSTRUCTIONS, Machine, StockKernel, with_card
from support.machine.errors import Unavailable
from support.stock_kernel import time_spent

HERE = Path(__file__).parent
TOP = HERE.parents[1]
LIMIT = 600.0
pytestmark = pytest.mark.timeout(LIMIT + 900)  # other machines may be waited for


@pytest.fixture(scope="module")
def facts(kernel: StockKernel, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What ``function_facts.py`` noted."""
    share = tmp_path_factory.mktemp("functions")
    printed: list[bytes] = []
    environment = {"PYTHONPATH": ":".join(str(TOP / name) for name in (".", "clients", "tests"))}
    begin = time.monotonic()
    try:
        machine = Machine(kernel, emulator=with_card(), devices=(*CARD, *IN_INSTRUCTIONS), environment=environment)
        command = [sys.executable, str(HERE / "function_facts.py")]
        assert machine.run(command, limit=LIMIT, share=share, directory=TOP, output=printed.append) == 0
    except Unavailable as error:
        pytest.skip(str(error))
    finally:
        print(b"".join(printed).decode(errors="replace"))
    return {**json.loads((share / "facts.json").read_text()), "spent": time_spent("virtual functions", begin)}


def test_functions_of_a_card_and_functions_by_address_are_handed_out_with_their_pci_address(fact: Any) -> None:
    handed_out = fact("handed_out")
    told = {guest: (result["vf"], result["pci"]) for guest, result in handed_out["results"].items()}
    addresses = handed_out["addresses"]
    assert told == {"one": (0, addresses["one"]), "two": (1, addresses["two"]), "three": (2, addresses["three"])}


def test_the_card_is_told_mac_vlan_spoof_check_and_trust_of_each(fact: Any) -> None:
    assert fact("handed_out")["functions"] == {
        "0": {"mac": "52:54:00:77:00:01", "vlan": 42, "spoofchk": True, "trust": False, "link_state": "auto"},
        "1": {"mac": "52:54:00:77:00:02", "vlan": 0, "spoofchk": False, "trust": True, "link_state": "auto"},
        "2": {"mac": "52:54:00:77:00:03", "vlan": 42, "spoofchk": True, "trust": False, "link_state": "auto"},
    }


def test_a_function_has_one_port_at_a_time_whatever_pool_it_is_in(fact: Any) -> None:
    card, listed = fact("handed_out")["refusals"]
    addresses = fact("handed_out")["addresses"]
    everyone = "; ".join(f"{addresses[guest]} (port hostdev{n})" for n, guest in enumerate(("one", "two", "three")))
    assert "InUse: network pool requires exclusive access" in card and card.endswith(everyone)
    assert "InUse: network listed requires exclusive access" in listed
    assert listed.endswith(f"none of its pool is available: {addresses['three']} (port hostdev2)")


def test_a_guest_finds_its_mac_in_its_function_and_reaches_guests_of_its_vlan_alone(fact: Any) -> None:
    traffic = fact("traffic")
    assert traffic["macs"] == {"one": "52:54:00:77:00:01", "two": "52:54:00:77:00:02", "three": "52:54:00:77:00:03"}
    assert traffic["answers"] == {"one to two": 0, "one to the host": 0, "two to three": 0}


def test_what_somebody_changes_at_the_card_is_put_right(fact: Any) -> None:
    assert fact("meddled")["after"] == fact("meddled")["before"]


def test_a_link_that_the_driver_cannot_unplug_is_refused_and_the_port_stays_as_it_was(fact: Any) -> None:
    unplugged = fact("unplugged")
    assert unplugged["refused"].endswith("Host: set link state of eth0 vf 0: Operation not supported")
    assert unplugged["port"] == [True, "active"]
    assert unplugged["after"] == unplugged["before"]


def test_a_killed_daemons_successor_has_the_same_ports_and_puts_right_what_was_changed(fact: Any) -> None:
    killed = fact("killed")
    assert killed["after"] == killed["before"]
    assert len(killed["after"]["ports"]) == 3
    assert "requires exclusive access" in killed["refusal"]


def test_functions_that_went_and_came_back_are_set_anew_and_their_ports_say_so_meanwhile(fact: Any) -> None:
    vanished = fact("vanished")
    assert vanished["problems"] == ["virtual function 0 of eth0 is not there: its port waits for it"]
    assert vanished["after"] == vanished["before"]


def test_a_card_does_for_a_function_given_back_what_it_did_before(fact: Any) -> None:
    released = fact("released")
    assert released["after"] == released["before"]
    assert (released["before"]["0"]["mac"], released["before"]["0"]["vlan"]) == ("52:54:00:aa:00:01", 7)


def test_nothing_is_left_of_an_attachment_the_driver_refuses_half_way(fact: Any) -> None:
    released = fact("released")
    assert "set link state of eth0 vf 0: Operation not supported" in released["refusal"]
    assert released["after_refusal"] == released["before"]
