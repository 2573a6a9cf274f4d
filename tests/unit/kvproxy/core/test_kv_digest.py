import contextlib
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvproxy.core.kv_digest import (
    CHANGES_MAX,
    Added,
    Begin,
    Changes,
    Digest,
    Emptied,
    Gone,
    Held,
    Wanted,
    Whole,
    digest_bytes,
    packed,
    told_from,
    wanted_bytes,
    words,
)
from kvproxy.core.shared_words import WordError
from kvproxy.core.types import Tier

NAMES = packed([1, 2**64 - 1])
EVERY = [
    Begin(True),
    Held(Tier.DRAM, 16, NAMES, NAMES),
    Added(Tier.HBM, 1, 2**64 - 1, NAMES, "session"),
    Gone(Tier.DISK, NAMES),
    Emptied(Tier.HBM),
    Whole(),
]


def test_digests_come_back() -> None:
    digest = Digest("me", "r0", 3, 7, 16, EVERY)
    assert told_from(digest_bytes(digest)) == digest
    assert told_from(wanted_bytes([("r0", 0), ("r1", 2)])) == Wanted([("r0", 0), ("r1", 2)])
    assert words(NAMES) == [1, 2**64 - 1]


@given(st.binary(max_size=100))
def test_whatever_else_comes_is_refused(data: bytes) -> None:
    good = digest_bytes(Digest("me", "r0", 3, 7, 16, EVERY))
    for told in (data, b"d" + data, b"w" + data, good[: len(data)], good[:30] + data):
        with contextlib.suppress(WordError):
            assert isinstance(told_from(told), Digest | Wanted)


def test_names_that_are_no_words_are_refused() -> None:
    with pytest.raises(WordError):
        words(b"1234567")


def test_changes_are_told_in_order_and_too_many_not_at_all() -> None:
    changes = Changes()
    changes.added(Tier.HBM, 1, 5, array("Q", [6, 7]))
    changes.made_by("s")
    changes.added(Tier.HBM, 1, 5, array("Q"))
    changes.gone(Tier.HBM, [7])
    changes.gone(Tier.HBM, [])
    changes.emptied(Tier.DRAM)
    assert changes.told == [
        Added(Tier.HBM, 1, 5, packed([6, 7]), "s"),
        Gone(Tier.HBM, packed([7])),
        Emptied(Tier.DRAM),
    ]
    for _ in range(CHANGES_MAX):
        changes.emptied(Tier.HBM)
    assert (changes.told, changes.overflown) == ([], True)
    changes.emptied(Tier.HBM)
    assert changes.told == []
