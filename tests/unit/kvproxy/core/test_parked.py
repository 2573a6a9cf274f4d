from kvproxy.core.parked import _EXPECTED_MAX, _WAITING_BLOCKS_MAX, Parked
from kvproxy.core.types import Tier
from tests.support.naive_index import stored


def test_what_waits_for_a_parent_is_taken_once() -> None:
    parked = Parked()
    assert not parked
    event = stored([2, 3], 1)
    assert parked.wait(event) == 0
    assert parked
    assert parked.behind(5) == []
    assert parked.behind(1) == [event]
    assert not parked


def test_the_oldest_gives_way() -> None:
    parked = Parked()
    half = list(range(1, _WAITING_BLOCKS_MAX // 2 + 2))
    assert parked.wait(stored(half, 10**6, tokens=[])) == 0
    assert parked.wait(stored(half, 10**6 + 1, tokens=[])) == len(half)
    assert parked.behind(10**6) == []
    assert len(parked.behind(10**6 + 1)) == 1


def test_placeholders_are_bounded_too() -> None:
    parked = Parked()
    assert [parked.expect(Tier.DRAM, key) for key in range(1, _EXPECTED_MAX + 1)] == (
        [0] * _EXPECTED_MAX
    )
    assert parked.expect(Tier.DRAM, _EXPECTED_MAX + 1) == 1
    assert parked.expected(1) == []
    assert parked.expected(2) == [Tier.DRAM]
    assert parked.expected(2) == []


def test_removals_of_what_waits_are_remembered() -> None:
    parked = Parked()
    parked.wait(stored([2, 3], 1))
    for _ in range(2):
        parked.removed(Tier.HBM, 3)
    assert parked.any_removed
    assert not parked.was_removed(Tier.HBM, 2)
    assert parked.was_removed(Tier.HBM, 3)
    assert parked.was_removed(Tier.HBM, 3)
    assert not parked.was_removed(Tier.HBM, 3)
    assert not parked.any_removed, "so many are remembered, and no more that were dealt with"
    parked.expect(Tier.DRAM, 7)
    parked.removed(Tier.DRAM, 7)
    assert parked.expected(7) == []


def test_an_emptied_tier_waits_for_nothing() -> None:
    parked = Parked()
    parked.wait(stored([2], 1))
    parked.wait(stored([2], 1, tier=Tier.DISK))
    parked.expect(Tier.HBM, 8)
    parked.drop(Tier.HBM)
    assert [event.tier for event in parked.behind(1)] == [Tier.DISK]
    assert parked.expected(8) == []
    assert not parked
