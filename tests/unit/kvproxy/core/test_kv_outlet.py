from array import array

from kvproxy.core.event_source import names_of, root
from kvproxy.core.holdings import Holdings
from kvproxy.core.kv_digest import Added, Begin, Gone, Held, Whole, packed, words
from kvproxy.core.kv_events import Cleared, Removed, Stored
from kvproxy.core.kv_outlet import Outlet
from kvproxy.core.types import Tier
from tests.support.makers import make_router

KEY = ("r0", 0)
TOKENS = array("I", range(40))
NAMES = names_of(TOKENS, 4)


def stored(first: int, count: int, parent: int = 0, session: str = "") -> Stored:
    tokens = TOKENS[4 * first : 4 * (first + count)].tolist()
    hashes = list(range(100 + first, 100 + first + count))
    return Stored(hashes, parent, tokens, 4, Tier.HBM, None, None, True, session)


def holdings() -> Holdings:
    return make_router(1).holdings


def test_all_that_is_held_is_told_once_and_then_what_changes() -> None:
    known = holdings()
    outlet = Outlet("me", KEY, known)
    known.apply(*KEY, stored(0, 5))
    first = outlet.take(10_000, 1.0)
    assert first is not None
    assert first[:5] == ("me", "r0", 0, 1, 4)
    assert (first.changes[0], first.changes[-1]) == (Begin(True), Whole())
    held = [change for change in first.changes if isinstance(change, Held)]
    pairs = {n: p for h in held for n, p in zip(words(h.names), words(h.parents), strict=True)}
    assert pairs == dict(zip(NAMES[:5], [root(4), *NAMES[:4]], strict=True))
    assert outlet.take(10_000, 1.1) is None
    known.apply(*KEY, stored(5, 2, 104, "s"))
    known.apply(*KEY, Removed([106], Tier.HBM, None))
    second = outlet.take(10_000, 1.2)
    assert second is not None
    assert second.number == 2
    added = Added(Tier.HBM, 1, NAMES[4], packed(NAMES[5:7]), "s")
    assert second.changes == [added, Gone(Tier.HBM, packed(NAMES[6:7]))]


def test_another_copy_that_goes_is_no_change() -> None:
    known = holdings()
    known.apply(*KEY, stored(0, 2))
    outlet = Outlet("me", KEY, known)
    known.index.drop(*KEY)
    known.apply(*KEY, stored(0, 2))
    outlet.take(10_000, 1.0)
    known.apply(*KEY, stored(1, 1, 100))
    outlet.take(10_000, 1.1)
    known.apply(*KEY, Removed([101], Tier.HBM, None))
    assert outlet.take(10_000, 1.2) is None
    known.apply(*KEY, Removed([101], Tier.HBM, None))
    assert outlet.take(10_000, 1.3) is not None


def test_it_is_told_in_parts_and_anew_when_somebody_missed_something() -> None:
    known = holdings()
    outlet = Outlet("me", KEY, known)
    known.apply(*KEY, stored(0, 10))
    parts = []
    while not parts or Whole() not in parts[-1].changes:
        digest = outlet.take(1, 1.0)
        assert digest is not None
        parts.append(digest)
        known.apply(*KEY, Removed([99], Tier.HBM, None))
    assert len(parts) > 5
    assert [part.number for part in parts] == list(range(1, len(parts) + 1))
    outlet.want(2.0)
    assert outlet.take(10_000, 2.0) is None
    outlet.want(9.0)
    again = outlet.take(10_000, 9.0)
    assert again is not None
    assert again.changes[0] == Begin(True)


def test_what_was_reset_is_told_anew_and_whether_it_is_all() -> None:
    known = holdings()
    outlet = Outlet("me", KEY, known)
    known.apply(*KEY, stored(0, 2))
    outlet.take(10_000, 1.0)
    known.reset(*KEY, complete=False)
    known.apply(*KEY, stored(0, 1))
    known.apply(*KEY, Cleared())
    digest = outlet.take(10_000, 1.1)
    assert digest is not None
    assert digest.changes == [Begin(False), Whole()]
    outlet.close()
    outlet.close()
    assert known.index.changes == {}
