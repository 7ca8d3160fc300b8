"""Members of a network: in the order they came, and as they were when somebody looked."""

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from vnetd.service.roster import Members

UUIDS = [UUID(int=number) for number in range(6)]


@given(st.lists(st.tuples(st.booleans(), st.sampled_from(UUIDS)), max_size=30))
def test_what_was_seen_stays_as_it_was_whatever_comes_and_goes(changes: list[tuple[bool, UUID]]) -> None:
    members, there = Members(), dict[UUID, None]()
    seen = [(members.roster(), ())]
    for comes, uuid in changes:
        if comes:
            members.add(uuid)
            there.setdefault(uuid)
        else:
            members.discard(uuid)
            there.pop(uuid, None)
        seen.append((members.roster(), tuple(there)))
    for roster, expected in seen:
        assert (tuple(roster), len(roster), roster) == (expected, len(expected), expected)
        for other, others in seen:
            assert (roster == other) is (expected == others)
            assert hash(roster) == hash(other) or expected != others


def test_it_reads_like_a_tuple() -> None:
    members = Members()
    for uuid in UUIDS[:3]:
        members.add(uuid)
    roster = members.roster()
    assert (roster[0], roster[-1], roster[1:]) == (UUIDS[0], UUIDS[2], tuple(UUIDS[1:3]))
    assert (UUIDS[1] in roster, UUIDS[4] in roster, repr(roster)) == (True, False, repr(tuple(UUIDS[:3])))
    assert roster != list(UUIDS[:3])
