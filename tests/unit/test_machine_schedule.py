"""Which tests a run with several workers begins with."""

from pathlib import Path

from support.machine_schedule import FUZZ, MACHINES, next_scope

UNIT, BUS, KERNEL = "tests/unit/test_ledger.py", "tests/bus/test_calls.py", "tests/kernel/test_lab.py"


def test_machines_come_first_and_what_takes_a_second_last() -> None:
    assert next_scope([UNIT, BUS, KERNEL, "debian-13", MACHINES]) == MACHINES
    assert next_scope([UNIT, BUS, KERNEL, "debian-13"]) == "debian-13"
    assert next_scope([UNIT, BUS, KERNEL]) == KERNEL
    assert next_scope([UNIT, BUS]) == BUS


def test_a_module_that_takes_longer_than_all_of_its_folder_comes_before_them() -> None:
    (fuzz,) = (str(path) for path in Path(__file__).parents[1].rglob(FUZZ))
    assert next_scope([UNIT, fuzz]) == fuzz
    assert next_scope([UNIT, fuzz, BUS]) == BUS


def test_of_equals_the_one_with_most_tests_which_xdist_names_first() -> None:
    assert next_scope([UNIT, BUS, KERNEL, "tests/kernel/test_isolated.py"]) == KERNEL


def test_any_other_comes_after_all_that_are_known() -> None:
    assert next_scope(["tests/elsewhere/test_new.py", UNIT]) == UNIT
