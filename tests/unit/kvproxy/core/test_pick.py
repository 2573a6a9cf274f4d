from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvproxy.core.pick import one_of, rendezvous
from tests.support.makers import make_replica

KEYS = [f"session {index}".encode() for index in range(4000)]


@given(st.binary(max_size=20), st.permutations(range(5)))
def test_the_order_of_candidates_does_not_matter(key: bytes, order: list[int]) -> None:
    candidates = [make_replica(f"r{index}") for index in order]
    same = [make_replica(f"r{index}") for index in range(5)]
    assert rendezvous(key, candidates).id == rendezvous(key, same).id


def test_sessions_spread_by_weight() -> None:
    candidates = [
        make_replica("r0", weight=1.0),
        make_replica("r1"),
        make_replica("r2", weight=2.0),
    ]
    counts = Counter(rendezvous(key, candidates).id for key in KEYS)
    assert counts["r0"] == pytest.approx(1000, rel=0.1)
    assert counts["r1"] == pytest.approx(1000, rel=0.1)
    assert counts["r2"] == pytest.approx(2000, rel=0.1)


def test_removing_a_replica_moves_only_its_sessions() -> None:
    candidates = [make_replica(f"r{index}") for index in range(5)]
    for key in KEYS[:500]:
        before = rendezvous(key, candidates).id
        left = [replica for replica in candidates if replica.id != "r3"]
        if before != "r3":
            assert rendezvous(key, left).id == before


def test_a_joining_replica_takes_only_its_share() -> None:
    candidates = [make_replica(f"r{index}") for index in range(4)]
    more = [*candidates, make_replica("r4")]
    moved = [k for k in KEYS if rendezvous(k, candidates).id != rendezvous(k, more).id]
    assert len(moved) == pytest.approx(len(KEYS) / 5, rel=0.15)
    assert {rendezvous(key, more).id for key in moved} == {"r4"}


def test_choosing_among_none_is_a_bug() -> None:
    with pytest.raises(AssertionError):
        rendezvous(b"", [])


def test_everybody_picks_the_same_name_and_only_those_of_one_that_goes_move() -> None:
    names = [f"proxy-{number}" for number in range(5)]
    picked = {key: one_of(key, set(names)) for key in KEYS}
    assert picked == {key: one_of(key, names[::-1]) for key in KEYS}
    counts = Counter(picked.values())
    assert all(abs(counts[name] - 800) < 120 for name in names)
    without = {key: one_of(key, names[1:]) for key in KEYS}
    assert all(without[key] == picked[key] for key in KEYS if picked[key] != names[0])
