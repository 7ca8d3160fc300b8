"""Which tests a run with several workers begins with."""

from support.machine_schedule import MACHINES, next_scope

UNIT, BUS, KERNEL = "tests/unit/test_ledger.py", "tests/bus/test_calls.py", "tests/kernel/test_lab.py"


def test_machines_come_first_and_what_takes_a_second_last() -> None:
    assert next_scope([UNIT, BUS, KERNEL, "debian-13", MACHINES]) == MACHINES
    assert next_scope([UNIT, BUS, KERNEL, "debian-13"]) == "debian-13"
    assert next_scope([UNIT, BUS, KERNEL]) == KERNEL
    assert next_scope([UNIT, BUS]) == BUS


def test_of_equals_the_one_with_most_tests_which_xdist_names_first() -> None:
    assert next_scope([UNIT, BUS, KERNEL, "tests/kernel/test_isolated.py"]) == KERNEL


def test_any_other_comes_after_all_that_are_known() -> None:
    assert next_scope(["tests/elsewhere/test_new.py", UNIT]) == UNIT
