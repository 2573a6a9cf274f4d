from array import array

import pytest

from kvproxy.core.event_source import EventSource, Grown, root
from kvproxy.core.kv_events import Cleared, KvEventError
from kvproxy.core.types import Tier
from kvproxy.core.word_map import Budget
from tests.support.naive_index import removed, stored


def source(limit: int = 2**30) -> EventSource:
    return EventSource(Budget(limit))


def held(source: EventSource, tier: Tier = Tier.HBM) -> set[int]:
    return set(source.tiers[tier].contents()) if tier in source.tiers else set()


def ours(source: EventSource, engine: int, tier: Tier = Tier.HBM) -> int:
    return source.tiers[tier].ours(engine)


def test_names_depend_on_tokens_and_nothing_else() -> None:
    one, other = source(), source()
    one.apply(stored([1, 2], tokens=range(8)))
    other.apply(stored([77], tokens=range(4)))
    other.apply(stored([78], 77, tokens=range(4, 8)))
    assert ours(one, 1) == ours(other, 77)
    assert ours(one, 2) == ours(other, 78)
    other.apply(stored([79], tokens=range(4, 8)))
    assert ours(other, 79) != ours(other, 78)


def test_extra_keys_are_part_of_the_name() -> None:
    plain, salted = source(), source()
    plain.apply(stored([1, 2], tokens=range(8)))
    salted.apply(stored([1, 2], tokens=range(8), extra=[["salt"], None]))
    assert ours(plain, 1) != ours(salted, 1)
    assert ours(plain, 2) != ours(salted, 2)


def test_a_named_session_learns_what_it_added() -> None:
    blocks = source()
    grown = blocks.apply(stored([1, 2], session="a"))
    names = array("Q", [ours(blocks, 1), ours(blocks, 2)])
    assert grown == Grown("a", root(4), names, [1, 2, 3, 4, 2, 3, 4, 5])
    grown = blocks.apply(stored([3], 2, session="b"))
    assert grown == Grown("b", ours(blocks, 2), array("Q", [ours(blocks, 3)]), [3, 4, 5, 6])
    assert blocks.apply(stored([4], 3)) is None
    assert blocks.path(ours(blocks, 4)) == array("Q", [ours(blocks, key) for key in (1, 2, 3, 4)])


def test_a_late_parent_is_waited_for() -> None:
    late, right = source(), source()
    for event in (stored([9]), stored([1, 2]), stored([3], 2), stored([4], 3)):
        right.apply(event)
    for event in (stored([9]), stored([4], 3), stored([3], 2), stored([1, 2])):
        late.apply(event)
    assert late.tiers[Tier.HBM].contents() == right.tiers[Tier.HBM].contents()


def test_a_removal_may_overtake_its_announcement() -> None:
    blocks = source()
    for event in (stored([9]), stored([3, 4], 2), removed(4), stored([1, 2])):
        blocks.apply(event)
    assert held(blocks) == {9, 1, 2, 3}


def test_placeholders_take_the_name_of_the_block() -> None:
    blocks = source()
    blocks.apply(stored([1, 2]))
    blocks.apply(stored([1], tokens=[], size=0, tier=Tier.DRAM))
    blocks.apply(stored([8], tokens=[], size=0, tier=Tier.DRAM))
    assert held(blocks, Tier.DRAM) == {1}
    blocks.apply(stored([8], 2))
    assert held(blocks, Tier.DRAM) == {1, 8}
    assert ours(blocks, 8, Tier.DRAM) == ours(blocks, 8)
    blocks.apply(removed(1, 2, 8))
    assert held(blocks) == set()
    assert held(blocks, Tier.DRAM) == {1, 8}


def test_clearing_empties_hbm_alone() -> None:
    blocks = source()
    blocks.apply(stored([1, 2]))
    blocks.apply(stored([1], tokens=[], size=0, tier=Tier.DRAM))
    blocks.apply(Cleared())
    assert held(blocks) == set()
    assert held(blocks, Tier.DRAM) == {1}


def test_a_report_of_a_cached_prefix_adds_no_copy() -> None:
    blocks = source()
    for _ in range(5):
        blocks.apply(stored([1, 2]))
    blocks.apply(removed(2))
    assert held(blocks) == {1}


def test_coarse_chunks_share_the_names_of_their_ends() -> None:
    blocks = source()
    tokens = range(16)
    blocks.apply(stored([1, 2, 3, 4], tokens=tokens))
    blocks.apply(stored([71, 72], tokens=tokens, size=8, tier=Tier.DRAM))
    assert ours(blocks, 71, Tier.DRAM) == ours(blocks, 2)
    assert ours(blocks, 72, Tier.DRAM) == ours(blocks, 4)
    assert blocks.tiers[Tier.DRAM].stride == 2


@pytest.mark.parametrize(
    "event",
    [
        stored([5], whole=False),
        stored([5], group=1),
        stored([5], tokens=range(12), size=4),
        stored([5], tokens=range(6), size=6),
        stored([5], tokens=range(2), size=2),
    ],
)
def test_other_groups_and_sizes_are_counted_alone(event: object) -> None:
    blocks = source()
    blocks.apply(stored([1], group=0))
    blocks.apply(event)  # type: ignore[arg-type]
    assert held(blocks) == {1}
    assert blocks.counts.other_groups == 1
    blocks.apply(removed(1, group=1))
    assert held(blocks) == {1}


def test_a_full_index_refuses_but_still_forgets() -> None:
    blocks = source()
    blocks.apply(stored(list(range(1, 101))))
    blocks._budget.limit = blocks._budget.used
    blocks.apply(stored([200], 100))
    assert blocks.counts.refused == 1
    blocks.apply(removed(*range(1, 101)))
    assert held(blocks) == set()
    blocks.release()
    assert blocks._budget.used == 0


def test_tokens_must_be_words() -> None:
    blocks = source()
    for tokens in ([-1, 2, 3, 4], [2**32, 0, 0, 0], ["a", 1, 2, 3]):
        with pytest.raises(KvEventError):
            blocks.apply(stored([5], tokens=tokens))  # type: ignore[arg-type]
    assert held(blocks) == set()


def test_unknown_removals_are_counted() -> None:
    blocks = source()
    blocks.apply(removed(1))
    blocks.apply(stored([1]))
    blocks.apply(removed(2))
    assert blocks.counts.unknown_removals == 2
