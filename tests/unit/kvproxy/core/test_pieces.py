"""A body in pieces against the same body whole."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from xxhash import xxh3_128

from kvproxy.core import pieces
from kvproxy.core.pieces import Body, Hashing, Pieces, between, received, spliced, whole
from kvproxy.core.types import Splice

CUTS = st.lists(st.integers(0, 300), max_size=5)


def cut(body: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(min(at, len(body)) for at in cuts), len(body)]
    return [body[start:end] for start, end in pairwise(edges)]


@given(st.binary(min_size=1, max_size=300), CUTS, st.integers(-310, 310), st.integers(-310, 310))
def test_slices_are_those_of_the_whole(body: bytes, cuts: list[int], one: int, other: int) -> None:
    given = Pieces(cut(body, cuts))
    assert len(given) == len(body)
    assert (given[one:other], given[one:], given[:other]) == (
        *(body[one:other], body[one:], body[:other]),
    )
    if 0 <= one <= other <= len(body):
        assert b"".join(between(given, one, other)) == body[one:other]
        assert b"".join(between(body, one, other)) == body[one:other]
    assert b"".join(given.views) == body
    joined = given.whole()
    assert joined == body
    assert given.whole() is joined
    assert given[one:other] == body[one:other]


@given(st.binary(min_size=1, max_size=300), CUTS, CUTS, st.integers(1, 100))
def test_a_beginning_has_one_hash(
    body: bytes, cuts: list[int], ends: list[int], step_bytes: int
) -> None:
    hashing = Hashing(step_bytes)
    for piece in cut(body, cuts):
        hashing.add(memoryview(piece))
    given = Pieces(cut(body, cuts), hashing)
    for end in [min(end, len(body)) for end in ends]:
        digest = xxh3_128(body[:end]).digest()
        for each in (given, Pieces(cut(body, cuts)), body):
            assert pieces.hashed(each, end).digest() == digest


def test_of_endless_bodies_few_hashes_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "_STATES_MAX", 2)
    body, hashing = bytes(range(100)), Hashing(10)
    hashing.add(body[:15])
    hashing.add(body[15:])
    assert len(hashing.states) == 2
    assert Pieces([body], hashing).hashed(99).digest() == xxh3_128(body[:99]).digest()


@given(st.binary(min_size=1, max_size=300), CUTS, CUTS)
def test_splices_go_into_pieces_as_into_the_whole(
    body: bytes, cuts: list[int], at: list[int]
) -> None:
    edges = sorted({min(each, len(body)) for each in at})
    splices = [Splice(a, b, b"new", "k") for a, b in list(pairwise(edges))[::2]]
    naive = body
    for splice in reversed(splices):
        naive = naive[: splice.start] + splice.new + naive[splice.end :]
    assert whole(spliced(Pieces(cut(body, cuts)), splices)) == naive
    assert whole(spliced(body, splices)) == naive


@pytest.mark.parametrize(
    ("sizes", "joined"),
    [([100_000], False), ([60_000, 60_000], False), ([30_000] * 2, True), ([30_000] * 17, True)],
)
def test_what_is_small_or_in_shreds_is_joined(sizes: list[int], joined: bool) -> None:
    parts = [bytes([index]) * size for index, size in enumerate(sizes)]
    body: Body = received(parts)
    assert isinstance(body, bytes) is joined
    assert whole(body) == b"".join(parts)


def test_a_piece_that_came_alone_is_never_copied() -> None:
    body = bytes(100_000)
    assert whole(Pieces([body])) is body
    # What it is cut out of is not it.
    assert whole(Pieces([memoryview(body)[1:]])) == body[1:]
    assert whole(Pieces([memoryview(body)[1:], b"x"])) == body[1:] + b"x"
