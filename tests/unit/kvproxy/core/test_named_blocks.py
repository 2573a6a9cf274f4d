from array import array
from random import Random

import pytest

from kvproxy.core.event_source import Grown, root
from kvproxy.core.kv_digest import Added, Emptied, Gone, Held, packed
from kvproxy.core.named_blocks import NamedBlocks, NamedSource
from kvproxy.core.shared_words import WordError
from kvproxy.core.types import Tier
from kvproxy.core.word_map import Budget

START = root(16)


def test_how_long_a_chain_is_held() -> None:
    budget = Budget(10**6)
    blocks = NamedBlocks(budget)
    chain = array("Q", range(100, 200))
    assert blocks.add(chain[:60].tolist(), [START, *chain[:59]]) == 0
    assert blocks.prefix(chain) == 60
    assert blocks.prefix(chain, 30) == 60
    assert blocks.prefix(chain, 70) == 70
    assert blocks.path(chain[9], START) == chain[:10]
    assert blocks.path(chain[60], START) is None
    assert (blocks.parent(chain[1]), blocks.parent(chain[60])) == (chain[0], 0)
    blocks.remove(chain[40:60])
    assert (blocks.prefix(chain), len(blocks)) == (40, 40)
    used = budget.used
    blocks.remove(chain[40:60])
    blocks.add(chain[:10].tolist(), [START, *chain[:9]])
    assert budget.used == used
    blocks.release()
    assert budget.used == 0


def test_chunks_are_known_by_their_ends() -> None:
    blocks = NamedBlocks(Budget(10**6))
    blocks.stride = 4
    chain = array("Q", range(1, 41))
    blocks.add(chain[3:20:4].tolist(), [START, *chain[3:16:4]])
    assert blocks.prefix(chain) == 20
    assert blocks.prefix(chain, 6) == 20
    assert blocks.prefix(chain, 22) == 22


def test_what_there_is_no_room_for_is_refused_and_removals_never() -> None:
    random, budget = Random(1), Budget(50_000)
    source = NamedSource(budget, 16)
    for _ in range(50):
        names = [random.getrandbits(64) for _ in range(20)]
        source.tell(Added(Tier.HBM, 1, START, packed(names)))
        assert budget.used <= budget.limit
    assert source.counts.refused + source.counts.stored == 1000
    assert source.counts.refused > 0
    source.tell(Gone(Tier.HBM, packed(names)))
    source.tell(Gone(Tier.DISK, packed(names)))
    source.tell(Emptied(Tier.HBM))
    source.tell(Emptied(Tier.HBM))
    assert (budget.used, source.tiers) == (0, {})


def test_a_source_tells_what_a_request_made() -> None:
    source = NamedSource(Budget(10**6), 16)
    chain = array("Q", [7, 8, 9])
    source.tell(Held(Tier.HBM, 1, packed(chain[:2]), packed([START, 7])))
    grown = source.tell(Added(Tier.HBM, 1, 8, packed([9]), "s"))
    assert grown == Grown("s", 8, array("Q", [9]))
    assert source.tell(Added(Tier.DRAM, 1, 8, packed([9]), "s")) is None
    assert source.path(9) == chain
    source.release()
    assert source.path(9) is None


def test_names_without_parents_are_refused_whole() -> None:
    budget = Budget(10**6)
    source = NamedSource(budget, 16)
    with pytest.raises(WordError):
        source.tell(Held(Tier.HBM, 1, packed([1, 2, 3]), packed([START, 1])))
    assert (budget.used, source.tiers) == (0, {})
