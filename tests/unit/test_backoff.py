"""Never fight: what drifts again and again is left alone, longer each time, and forgotten when calm."""

from vnetd.reconcile.backoff import FIRST_HOLD, LIMIT, MAX_HOLD, WINDOW, Fights, Quarrel, in_words

BRIDGE = "bridge virbr0"


def fought(what: str = BRIDGE, times: int = LIMIT) -> Fights:
    """Repairs of one thing, the last of them at 0 s."""
    fights = Fights()
    for number in range(times):
        fights.record(what, "ip", (number + 1 - times) * 0.1)
    return fights


def test_single_repairs_are_never_followed_by_a_hold() -> None:
    fights = Fights()
    for now in (0, 60, 120, 180, 240, 300):
        fights.record(BRIDGE, "ip", now)
        assert (fights.held(now), fights.fought(), fights.next(now)) == (frozenset(), {}, None)


def test_what_was_repaired_five_times_within_ten_seconds_is_left_alone() -> None:
    assert fought(times=LIMIT - 1).held(0) == frozenset()
    assert fought().held(0) == {BRIDGE}
    assert fought().fought() == {BRIDGE: Quarrel("ip", FIRST_HOLD)}


def test_its_time_comes_and_then_that_of_calm() -> None:
    fights = fought()
    assert fights.next(0.25) == FIRST_HOLD - 0.25
    assert fights.held(FIRST_HOLD) == frozenset()
    assert fights.next(FIRST_HOLD) == WINDOW


def test_holds_double_up_to_a_minute() -> None:
    fights, now = fought(), 0.0
    holds = [fights.fought()[BRIDGE].hold]
    for _ in range(8):
        now += holds[-1] + 0.5
        fights.calm(now)
        fights.record(BRIDGE, "ip", now)
        holds.append(fights.fought()[BRIDGE].hold)
    assert holds[:4] == [1, 2, 4, 8]
    assert holds[-1] == MAX_HOLD


def test_different_things_are_counted_apart() -> None:
    fights = Fights()
    for number in range(LIMIT * 2):
        fights.record(f"address 10.0.0.{number}", "ip", 0.1 * number)
    assert fights.fought() == {}


def test_calm_comes_only_after_a_quiet_window() -> None:
    fights = fought()
    fights.calm(FIRST_HOLD + WINDOW - 0.1)
    assert fights.fought()
    fights.calm(FIRST_HOLD + WINDOW)
    assert not fights.fought() and fights.next(FIRST_HOLD + WINDOW) is None
    fights.record(BRIDGE, "ip", FIRST_HOLD + WINDOW)
    assert not fights.fought(), "counting begins anew"


def test_who_was_seen_to_change_it_is_remembered_when_he_is_not_seen_again() -> None:
    fights = fought()
    fights.record(BRIDGE, "", FIRST_HOLD)
    assert fights.fought()[BRIDGE].cause == "ip"


def test_what_is_forgotten_is_not_left_alone() -> None:
    fights = fought()
    assert (fights.forget(BRIDGE), fights.held(0), fights.forget(BRIDGE)) == (True, frozenset(), False)
    assert not fought(times=1).forget(BRIDGE), "it was not fought over"


def test_what_the_same_one_changes_is_told_in_one_sentence() -> None:
    nft, other = Quarrel("nft", 4.0), Quarrel("", 1.0)
    both, one = in_words({"table inet vnetd is missing": nft, BRIDGE: other, "table bridge vnetd is missing": nft})
    assert "table inet vnetd is missing, table bridge vnetd is missing" in both and "by nft" in both and "4 s" in both
    assert BRIDGE in one and "by something unknown" in one
