from array import array

import pytest

from kvproxy.core.event_source import root
from kvproxy.core.kv_digest import Added, Begin, Change, Digest, Whole, packed
from kvproxy.core.second_hand import SecondHand
from kvproxy.core.shared_words import WordError
from kvproxy.core.types import Tier
from tests.support.makers import make_router

CHAIN = array("Q", range(100, 120))


def digest(number: int, *changes: Change, origin: str = "other") -> Digest:
    return Digest(origin, "r0", 0, number, 16, list(changes))


def added(first: int, end: int) -> Added:
    parent = CHAIN[first - 1] if first else root(16)
    return Added(Tier.HBM, 1, parent, packed(CHAIN[first:end]))


def test_from_the_beginning_on_it_is_known_what_is_held() -> None:
    holdings = make_router(1).holdings
    heard = SecondHand(holdings)
    assert heard.unknown([("r0", 0)]) == [("r0", 0)]
    assert not heard.hear(digest(4, added(0, 5)))
    assert holdings.index.look_up("r0", CHAIN, 16).hbm == 0
    assert heard.hear(digest(5, Begin(True), added(0, 5)))
    assert holdings.standing.any_behind("r0")
    assert heard.unknown([("r0", 0)]) == []
    assert heard.hear(digest(6, Whole(), added(5, 8)))
    assert not holdings.standing.any_behind("r0")
    assert holdings.index.look_up("r0", CHAIN, 16).hbm == 8
    assert (heard.digests, heard.gaps) == (2, 0)


@pytest.mark.parametrize("then", [digest(9, added(8, 9)), digest(7, added(8, 9), origin="third")])
def test_what_was_missed_leaves_the_source_without_a_say(then: Digest) -> None:
    holdings = make_router(1).holdings
    heard = SecondHand(holdings)
    heard.hear(digest(6, Begin(True), added(0, 8), Whole()))
    assert not heard.hear(then)
    assert heard.gaps == 1
    assert holdings.index.look_up("r0", CHAIN, 16).hbm == 0
    assert holdings.standing.any_behind("r0")
    assert heard.unknown([("r0", 0)]) == [("r0", 0)]
    assert heard.hear(digest(20, Begin(False), added(0, 8), Whole()))
    assert holdings.index.look_up("r0", CHAIN, 16).hbm == 8
    assert holdings.standing.any_partial("r0")


def test_what_cannot_be_read_is_lost() -> None:
    heard = SecondHand(make_router(1).holdings)
    with pytest.raises(WordError):
        heard.hear(digest(1, Begin(True), Added(Tier.HBM, 1, 0, b"odd")))
    assert heard.unknown([("r0", 0)]) == [("r0", 0)]


def test_who_listens_himself_begins_with_nothing_and_a_say() -> None:
    holdings = make_router(1).holdings
    heard = SecondHand(holdings)
    heard.hear(digest(6, Begin(False), added(0, 8)))
    heard.lose_all()
    heard.forget(("r0", 0))
    assert not holdings.standing.any_behind("r0")
    assert not holdings.standing.any_partial("r0")
    assert holdings.index.look_up("r0", CHAIN, 16).hbm == 0


def test_a_replica_that_is_taken_away_takes_what_was_told_of_it_along() -> None:
    holdings = make_router(1).holdings
    heard = SecondHand(holdings)
    heard.hear(digest(6, Begin(True), added(0, 8), Whole()))
    holdings.forget("r0")
    assert not heard.hear(digest(7, added(8, 9)))
    assert heard.unknown([("r0", 0)]) == [("r0", 0)]
