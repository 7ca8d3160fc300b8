"""Never fight: repairs that follow each other closely are held back, longer each time, and forgotten when calm."""

from vnetd.reconcile.backoff import FIRST_HOLD, LIMIT, MAX_HOLD, WINDOW, Fights


def fought(fights: Fights, what: str, now: float, times: int = LIMIT) -> float:
    for number in range(times):
        hold = fights.record(what, now + number * 0.1)
    return hold


def test_single_repairs_are_never_held_back() -> None:
    fights = Fights()
    assert [fights.record("bridge virbr0", now) for now in (0, 60, 120, 180, 240, 300)] == [0] * 6


def test_the_fifth_repair_within_ten_seconds_is_followed_by_a_hold() -> None:
    assert fought(Fights(), "bridge virbr0", 0, LIMIT - 1) == 0
    assert fought(Fights(), "bridge virbr0", 0, LIMIT) == FIRST_HOLD


def test_holds_double_up_to_a_minute() -> None:
    fights, now = Fights(), 0.0
    holds = [fought(fights, "bridge virbr0", now)]
    for _ in range(8):
        now += holds[-1] + 0.5
        holds.append(fights.record("bridge virbr0", now))
    assert holds[:4] == [1, 2, 4, 8]
    assert holds[-1] == MAX_HOLD


def test_different_objects_are_counted_apart() -> None:
    fights = Fights()
    assert all(fights.record(f"address 10.0.0.{n}", 0.1 * n) == 0 for n in range(LIMIT * 2))


def test_calm_comes_only_after_a_quiet_window() -> None:
    fights = Fights()
    hold = fought(fights, "rules", 0)
    assert not fights.calm(hold + WINDOW - 1)
    assert fights.calm(hold + WINDOW + 1)


def test_after_calm_counting_begins_anew() -> None:
    fights = Fights()
    hold = fought(fights, "rules", 0)
    assert fights.record("rules", hold + WINDOW + 1) == 0
