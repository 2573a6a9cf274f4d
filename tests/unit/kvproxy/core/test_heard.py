from random import Random

from kvproxy.core.heard import Heard, Sent
from kvproxy.core.life_cycle import Evidence
from kvproxy.core.shared_words import Mark
from tests.support.makers import make_replica


def blocks(found: dict[str, Sent]) -> dict[str, int]:
    return {replica: sent.blocks for replica, sent in found.items()}


def test_a_mark_stands_for_all_before_it() -> None:
    heard = Heard(100)
    heard.tell("r0", [Mark(3, 13), Mark(5, 15)], 1.0)
    heard.tell("r1", [Mark(3, 13)], 1.0, 7.5)
    found = heard.take([11, 12, 13, 14, 15, 16])
    assert found == {"r0": Sent(5, 1.0, 0.0), "r1": Sent(3, 1.0, 7.5)}
    assert heard.take([11, 12, 13, 14, 15, 16]) == {}
    assert len(heard) == 0


def test_other_chains_find_nothing() -> None:
    heard = Heard(100)
    heard.tell("r0", [Mark(1, 13)], 0.0)
    assert heard.take([11, 12]) == {}
    assert heard.take([]) == {}
    assert len(heard) == 1


def test_bounded_and_the_longest_unheard_goes_first() -> None:
    heard, random = Heard(20), Random(1)
    for index in range(500):
        heard.tell(f"r{random.randrange(200)}", [Mark(1, index), Mark(1, 10_000)], 0.0)
        assert len(heard) <= 20
    assert heard.take([1]) == {}
    assert len(heard.take([10_000])) == 64
    assert set(blocks(heard.take([499])).values()) == {1}


def test_what_was_told_before_a_replica_lost_its_cache_is_held_no_more() -> None:
    replica = make_replica()
    assert Sent(3, 5.0, 0.0).is_held(replica)
    assert replica.see(Evidence.STALLED, 6.0)
    assert not Sent(3, 5.0, 0.0).is_held(replica)
    assert Sent(3, 7.0, 0.0).is_held(replica)


def test_processes_that_both_proxies_know_by_name_are_told_apart_whoever_saw_them_first() -> None:
    replica = make_replica()
    replica.began(1000.0, 1.0)
    assert Sent(3, 5.0, 1000.0).is_held(replica)
    # The peer has seen the next process already, and later this proxy does too.
    assert not Sent(3, 5.0, 2000.0).is_held(replica)
    assert replica.began(2000.0, 6.0)
    assert Sent(3, 5.0, 2000.0).is_held(replica)
    assert not Sent(3, 7.0, 1000.0).is_held(replica)
    assert not Sent(3, 5.0, 0.0).is_held(replica)


def test_what_is_told_again_counts_from_then_on() -> None:
    heard, replica = Heard(10), make_replica()
    heard.tell("r0", [Mark(1, 1)], 1.0, 1000.0)
    replica.began(1000.0, 0.0)
    replica.began(2000.0, 2.0)
    heard.tell("r0", [Mark(1, 1)], 3.0, 2000.0)
    assert heard.take([1])["r0"].is_held(replica)
