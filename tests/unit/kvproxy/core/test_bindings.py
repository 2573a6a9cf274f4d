from random import Random

from kvproxy.core.bindings import Bindings
from kvproxy.core.shared_words import Bound


def bound(origin: str, replica: str = "r0") -> Bound:
    return Bound(origin, replica, 100, ())


def test_what_was_never_heard_of_has_to_be_asked() -> None:
    known = Bindings("me", 10, 60.0)
    assert not known.knows(b"k", 0.0)
    assert known.told(b"k", 3, bound("other"), 0.0)
    assert known.knows(b"k", 60.0)
    assert not known.knows(b"k", 61.0)


def test_own_words_and_old_ones_are_no_news() -> None:
    known = Bindings("me", 10, 60.0)
    known.placed(b"k", bound("me"), 0.0)
    assert known.version(b"k") == 0
    assert not known.told(b"k", 1, bound("me"), 0.1)
    known.taken(b"k", 1)
    assert known.told(b"k", 2, bound("other", "r1"), 0.2)
    assert not known.told(b"k", 1, bound("third", "r2"), 0.3)
    assert known.version(b"k") == 2
    known.placed(b"k", bound("me"), 0.4)
    assert known.version(b"k") == 2


def test_after_deafness_everything_is_asked_again_once() -> None:
    known = Bindings("me", 10, 60.0)
    known.placed(b"own", bound("me"), 0.0)
    known.told(b"k", 9, bound("other"), 0.0)
    known.deaf()
    assert not known.knows(b"own", 0.0)
    assert not known.knows(b"k", 0.0)
    # A store that has lost its memory counts from 1 again.
    assert known.told(b"k", 1, bound("other", "r1"), 0.1)
    assert known.knows(b"k", 0.1)
    assert [key for key, _ in known.own()] == [b"own"]


def test_the_store_confirms_the_latest_only() -> None:
    known = Bindings("me", 10, 60.0)
    known.taken(b"gone", 4)
    assert not known.knows(b"gone", 0.0)
    known.told(b"k", 5, bound("other"), 0.0)
    known.taken(b"k", 4)
    assert known.version(b"k") == 5


def test_bounded_in_number_and_age() -> None:
    known, random = Bindings("me", 8, 5.0), Random(3)
    for now in range(200):
        known.placed(b"%d" % random.randrange(30), bound("me"), float(now))
        assert len(known) <= 6
    known.placed(b"last", bound("me"), 1000.0)
    assert len(known) == 1
