from collections.abc import Sequence
from math import inf

import pytest

from kvproxy.core.life_cycle import Evidence, Health
from kvproxy.core.prefix_tree import PrefixTree
from kvproxy.core.replica import Replica
from tests.support.makers import make_chain, make_replica


def test_its_cache_is_sized_in_tokens() -> None:
    replica = make_replica(hbm_tokens=1000)
    assert replica.hbm.capacity == 1000
    replica.fit(2000)
    assert (replica.hbm_tokens, replica.hbm.capacity) == (2000, 2000)


def test_no_models_means_any() -> None:
    assert make_replica().serves("anything")
    assert make_replica(models=("a", "b")).serves("b")
    assert not make_replica(models=("a",)).serves("b")
    assert make_replica(models=("a",)).serves("")


def filled() -> tuple[Replica, Sequence[int]]:
    replica, chain = make_replica(), make_chain("x" * 640)
    end, _ = replica.hbm.pin(chain.hashes)
    replica.hbm.release(replica.hbm.extend(end, chain.hashes, chain.text_bytes))
    return replica, chain.hashes


def test_a_replica_that_does_not_say_when_it_began_loses_its_cache_with_its_place() -> None:
    replica, hashes = filled()
    assert replica.see(Evidence.STALLED, 1.0)
    assert replica.hbm.match(hashes) == 0
    assert replica.emptied_at == 1.0


def test_one_that_does_keeps_it_until_another_process_answers() -> None:
    replica, hashes = filled()
    assert not replica.began(1000.5, 0.0)
    replica.see(Evidence.STALLED, 1.0)
    assert not replica.began(1000.5, 0.0)
    assert replica.hbm.match(hashes) == len(hashes)
    assert replica.emptied_at == -inf
    assert replica.began(2000.5, 2.0)
    assert replica.hbm.match(hashes) == 0
    assert replica.emptied_at == 2.0


def test_one_request_at_a_time_proves_a_replica() -> None:
    replica = make_replica(health=Health.PROBING)
    assert replica.up
    assert replica.may_try
    hold = replica.load.reserve(replica.id, 1.0, 0.0)
    assert not replica.may_try
    replica.see(Evidence.ANSWERED, 1.0)
    assert replica.may_try
    replica.load.release(hold, 2.0)


def test_one_that_just_came_is_eased_in() -> None:
    replica = make_replica()
    assert replica.share(0.0) == 1.0
    replica.ease(100.0, 10.0)
    assert [replica.share(now) for now in (100.0, 105.0, 110.0)] == [0.1, 0.5, 1.0]
    replica.ease(200.0, 0.0)
    assert replica.share(200.0) == 1.0


def test_half_of_the_answers_under_way_is_kept_free() -> None:
    replica = make_replica(hbm_tokens=1000)
    for _ in range(60):
        replica.answered(216)
    holds = [replica.load.reserve(replica.id, 0.0, 0.0) for _ in range(2)]
    replica.make_room()
    assert replica.hbm.capacity == pytest.approx(1000 - 2 * (216 - 16) / 2, abs=1)
    for hold in holds:
        replica.load.release(hold, 1.0)
    replica.make_room()
    assert replica.hbm.capacity == 1000


@pytest.mark.parametrize("pinned", [False, True])
def test_what_was_believed_of_one_that_is_gone_needs_no_collector(pinned: bool) -> None:
    replica, hashes = filled()
    end, _ = replica.hbm.pin(hashes)
    if not pinned:
        replica.hbm.release(end)
    replica.gone()
    if pinned:
        # A request that was under way settles with it.
        replica.hbm.release(end)
    assert (replica.hbm.runs, replica.hbm.size) == (0, 0)
    assert not replica.hbm._root.children


def test_a_shared_model_outlives_a_replica() -> None:
    for shared in (True, False):
        replica, (first, *_) = filled()
        replica.dram, replica.dram_shared = PrefixTree(1000), shared
        replica.dram.keep(first, 10)
        replica.gone()
        assert (replica.dram.runs, replica.dram.capacity) == ((1, 1000) if shared else (0, 0))
