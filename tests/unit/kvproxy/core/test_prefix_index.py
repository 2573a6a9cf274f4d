from array import array

from kvproxy.core.kv_events import Cleared
from kvproxy.core.prefix_index import Held, PrefixIndex
from kvproxy.core.types import Tier
from tests.support.naive_index import removed, stored

TOKENS = range(40)


def filled() -> tuple[PrefixIndex, "array[int]"]:
    """Replica a holds ten blocks in HBM; b holds four on rank 0, six on rank 1."""
    index = PrefixIndex(2**30)
    grown = index.apply("a", 0, stored(range(1, 11), tokens=TOKENS, session="s"))
    assert grown is not None
    index.apply("b", 0, stored(range(1, 5), tokens=TOKENS[:16]))
    index.apply("b", 1, stored(range(51, 57), tokens=TOKENS[:24]))
    return index, grown.hashes


def test_the_longest_prefix_of_the_best_rank() -> None:
    index, chain = filled()
    assert index.look_up("a", chain, 4) == Held(0, 10, 0, 0)
    assert index.look_up("b", chain, 4) == Held(1, 6, 0, 0)
    assert index.look_up("c", chain, 4).blocks == 0
    assert index.look_up("a", chain, 8).blocks == 0
    assert index.look_up("a", array("Q", [5]), 4).blocks == 0
    assert index.ranks("b") == 2
    assert index.pairs == 20


def test_tiers_go_on_where_the_faster_one_ends() -> None:
    index, chain = filled()
    for tier, upto in ((Tier.DRAM, 6), (Tier.DISK, 8), (Tier.REMOTE, 9)):
        index.apply("a", 0, stored(range(1, upto + 1), tokens=[], size=0, tier=tier))
    index.apply("a", 0, removed(*range(10, 3, -1)))
    assert index.look_up("a", chain, 4) == Held(0, 3, 3, 3)
    index.apply("a", 0, Cleared())
    assert index.look_up("a", chain, 4) == Held(0, 0, 6, 3)


def test_drop_forgets_a_rank_or_a_replica() -> None:
    index, chain = filled()
    index.drop("b", 1)
    assert index.look_up("b", chain, 4).blocks == 4
    assert index.source("b", 1) is None
    index.drop("a")
    index.drop("b")
    index.drop("never seen")
    assert list(index) == []
    assert index.budget.used == 0


def test_one_copy() -> None:
    index, chain = filled()
    index.apply("a", 0, stored([10], 9, tokens=TOKENS[36:]))
    index.one_copy("a", chain[8:])
    index.apply("a", 0, removed(10))
    assert index.look_up("a", chain, 4).blocks == 9
