from random import Random

from kvproxy.core.bindings import Bindings, Owed
from kvproxy.core.shared_words import Bound, Told


def bound(origin: str, replica: str = "r0") -> Bound:
    return Bound(origin, replica, 100, ())


def hear(known: Bindings, words: list[Told], now: float) -> list[bool]:
    return [known.told(*word, now) for word in words]


def test_what_was_never_heard_of_has_to_be_asked() -> None:
    known = Bindings("me", 10, 60.0)
    assert not known.knows(b"k", 0.0)
    assert known.told(b"k", 3, bound("other"), 0.0)
    assert known.knows(b"k", 60.0)
    assert not known.knows(b"k", 61.0)


def test_own_words_and_old_ones_are_no_news() -> None:
    known = Bindings("me", 10, 60.0)
    assert known.placed(b"k", bound("me"), 0.0) == Owed(bound("me"), 0.0, 0, "")
    assert hear(known, known.decided(b"k", bound("me"), 1, None), 0.1) == [False]
    assert not known.told(b"k", 1, bound("me"), 0.1)
    assert known.told(b"k", 2, bound("other", "r1"), 0.2)
    assert not known.told(b"k", 1, bound("third", "r2"), 0.3)
    assert known.placed(b"k", bound("me"), 0.4) == Owed(bound("me"), 0.4, 2, "other")


def test_until_the_store_decides_a_turn_of_ones_own_stays() -> None:
    known = Bindings("me", 10, 60.0)
    mine, theirs = bound("me"), bound("other", "r1")
    known.placed(b"k", mine, 0.0)
    assert not known.told(b"k", 1, theirs, 0.1)
    # Taken, and what was heard meanwhile was older, newer, or kept instead.
    assert hear(known, known.decided(b"k", mine, 2, None), 0.2) == [False]
    known.placed(b"k", mine, 1.0)
    assert not known.told(b"k", 4, theirs, 1.1)
    assert hear(known, known.decided(b"k", mine, 3, None), 1.2) == [False, True]
    known.placed(b"k", mine, 2.0)
    assert hear(known, known.decided(b"k", mine, 5, theirs), 2.2) == [True]
    # The word of a store that may have been lost with it.
    known.placed(b"k", mine, 3.0)
    assert not known.told(b"k", 9, theirs, 3.1)
    known.deaf()
    assert hear(known, known.decided(b"k", mine, 6, None), 3.2) == [False]


def test_a_turn_placed_while_the_one_before_is_decided_follows_it() -> None:
    known = Bindings("me", 10, 60.0)
    first, second = bound("me", "r0"), bound("me", "r1")
    known.placed(b"k", first, 0.0)
    known.placed(b"k", second, 1.0)
    assert hear(known, known.decided(b"k", first, 1, None), 1.1) == [False]
    assert list(known.retold()) == [(b"k", Owed(second, 1.0, 1, "me"))]
    assert hear(known, known.decided(b"k", second, 2, None), 1.2) == [False]


def test_after_deafness_everything_is_asked_again_once() -> None:
    known = Bindings("me", 10, 60.0)
    known.placed(b"own", bound("me"), 0.0)
    known.told(b"held", 0, bound("me"), 0.0)
    known.told(b"k", 9, bound("other"), 0.0)
    known.deaf()
    assert not known.knows(b"own", 0.0)
    assert not known.knows(b"k", 0.0)
    assert b"k" in known
    # A store that has lost its memory may count from 1 again.
    assert known.told(b"k", 1, bound("other", "r1"), 0.1)
    assert known.knows(b"k", 0.1)
    # What was only asked for never ran anywhere.
    assert list(known.retold()) == [(b"own", Owed(bound("me"), 0.0, 0, ""))]


def test_what_is_told_again_was_placed_when_it_was() -> None:
    known = Bindings("me", 10, 60.0)
    known.placed(b"k", bound("me"), 1.0)
    hear(known, known.decided(b"k", bound("me"), 1, None), 5.0)
    assert not known.told(b"k", 1, bound("me"), 6.0)
    assert list(known.retold()) == [(b"k", Owed(bound("me"), 1.0, 1, "me"))]


def test_bounded_in_number_and_age() -> None:
    known, random = Bindings("me", 8, 5.0), Random(3)
    for now in range(200):
        known.placed(b"%d" % random.randrange(30), bound("me"), float(now))
        assert len(known) <= 6
    known.placed(b"last", bound("me"), 1000.0)
    assert len(known) == 1
