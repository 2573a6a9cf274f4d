from random import Random

from kvproxy.core.heard import Heard
from kvproxy.core.shared_words import Mark


def test_a_mark_stands_for_all_before_it() -> None:
    heard = Heard(100)
    heard.tell("r0", [Mark(3, 13), Mark(5, 15)])
    heard.tell("r1", [Mark(3, 13)])
    assert heard.take([11, 12, 13, 14, 15, 16]) == {"r0": 5, "r1": 3}
    assert heard.take([11, 12, 13, 14, 15, 16]) == {}
    assert len(heard) == 0


def test_other_chains_find_nothing() -> None:
    heard = Heard(100)
    heard.tell("r0", [Mark(1, 13)])
    assert heard.take([11, 12]) == {}
    assert heard.take([]) == {}
    assert len(heard) == 1


def test_bounded_and_the_longest_unheard_goes_first() -> None:
    heard, random = Heard(20), Random(1)
    for index in range(500):
        heard.tell(f"r{random.randrange(200)}", [Mark(1, index), Mark(1, 10_000)])
        assert len(heard) <= 20
    assert heard.take([1]) == {}
    assert len(heard.take([10_000])) == 64
    assert set(heard.take([499]).values()) == {1}


def test_a_replica_whose_cache_is_empty_is_forgotten() -> None:
    heard = Heard(10)
    heard.tell("r0", [Mark(1, 1), Mark(2, 2)])
    heard.tell("r1", [Mark(2, 2)])
    heard.forget_replica("r0")
    assert heard.take([1, 2]) == {"r1": 2}
