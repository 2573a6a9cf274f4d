import pytest
from hypothesis import given
from hypothesis import strategies as st
from xxhash import xxh3_64_intdigest

from kvproxy.core.blocks import extend, root
from kvproxy.core.hop import pack, unpack
from kvproxy.core.segments import Segment
from kvproxy.core.types import Chain

SEGMENTS = st.lists(
    st.tuples(st.binary(max_size=30), st.binary(max_size=90)).map(
        lambda parts: Segment(parts[0] + b"\0" + parts[1], len(parts[0]) + 1, len(parts[1]))
    ),
    max_size=6,
)


@given(SEGMENTS, SEGMENTS, st.integers(1, 40), st.integers(0, 2**64 - 1))
def test_extending_in_steps_is_extending_at_once(
    first: list[Segment], second: list[Segment], block_bytes: int, seed: int
) -> None:
    steps, once = Chain(seed), Chain(seed)
    extend(steps, first, block_bytes)
    extend(steps, second, block_bytes)
    extend(once, first + second, block_bytes)
    assert steps == once


@given(SEGMENTS, st.integers(1, 40))
def test_measures_add_up(segments: list[Segment], block_bytes: int) -> None:
    chain = Chain()
    extend(chain, segments, block_bytes)
    assert len(chain.hashes) == len(chain.text_bytes)
    assert len(chain) == sum(-(-len(s.data) // block_bytes) or 1 for s in segments)
    assert list(chain.text_bytes) == sorted(chain.text_bytes)
    assert list(chain.segment_ends) == sorted(chain.segment_ends)
    assert len(chain.segment_ends) == len(chain.items) == len(segments)
    if segments:
        assert chain.text_bytes[-1] == sum(s.text_bytes for s in segments)
        assert chain.segment_ends[-1] == len(chain)


def test_a_shared_beginning_shares_blocks_and_nothing_behind_it() -> None:
    one, other = Chain(), Chain()
    extend(one, [Segment(b"x" * 100 + b"a" + b"y" * 99, 0, 200)], 10)
    extend(other, [Segment(b"x" * 100 + b"b" + b"y" * 99, 0, 200)], 10)
    assert one.hashes[:10] == other.hashes[:10]
    assert set(one.hashes[10:]).isdisjoint(other.hashes[10:])


@given(SEGMENTS, SEGMENTS, st.integers(1, 40), st.integers(0, 400))
def test_finer_blocks_at_the_beginning_do_not_depend_on_how_it_was_read(
    first: list[Segment], second: list[Segment], block_bytes: int, fine: int
) -> None:
    steps, once = Chain(), Chain()
    extend(steps, first, block_bytes, fine)
    extend(steps, second, block_bytes, fine)
    extend(once, first + second, block_bytes, fine)
    assert steps == once
    assert not once.text_bytes or once.text_bytes[-1] == sum(s.text_bytes for s in first + second)


def naive(segments: list[Segment], block_bytes: int, fine: int) -> Chain:
    """Block by block, as it is said."""
    chain, fine_bytes, text = Chain(), max(1, block_bytes // 8), 0
    for segment in segments:
        data, text_start, text_bytes = segment.data, segment.text_start, segment.text_bytes
        before, start, ended = text - text_start, 0, False
        while not ended:
            fine_here = text < fine and before + start < fine
            end = start + (fine_bytes if fine_here else block_bytes)
            ended = end >= len(data)
            chain.hashes.append(xxh3_64_intdigest(data[start:end], chain.end))
            last = text + text_bytes
            chain.text_bytes.append(last if ended else min(max(text, before + end), last))
            start = end
        chain.segment_ends.append(len(chain))
        text += text_bytes
    return chain


@given(SEGMENTS, st.integers(1, 40), st.integers(0, 400))
def test_blocks_are_those_of_a_naive_twin(
    segments: list[Segment], block_bytes: int, fine: int
) -> None:
    chain, twin = Chain(), naive(segments, block_bytes, fine)
    extend(chain, segments, block_bytes, fine)
    assert chain.hashes == twin.hashes
    assert chain.text_bytes == twin.text_bytes
    assert chain.segment_ends == twin.segment_ends


def test_only_the_beginning_is_finer() -> None:
    chain = Chain()
    extend(chain, [Segment(b"x" * 100, 0, 100), Segment(b"y" * 100, 0, 100)], 40, 120)
    assert list(chain.text_bytes) == [*range(5, 125, 5), 160, 200]


def test_tokens_are_counted_in_text_not_in_frames() -> None:
    chain = Chain()
    extend(chain, [Segment(b"f" * 15 + b"t" * 20, 15, 20)], 10)
    assert list(chain.text_bytes) == [0, 5, 15, 20]
    assert list(chain.segment_ends) == [4]


@pytest.mark.parametrize(
    "other", [("a", "bc"), ("abc",), ("ab", "c", ""), ("", "abc"), ("ab", "C")]
)
def test_roots_differ_by_every_part(other: tuple[str, ...]) -> None:
    assert root("ab", "c") == root("ab", "c")
    assert root("ab", "c") != root(*other)


def test_chains_of_different_roots_share_no_block() -> None:
    one, other = Chain(root("a")), Chain(root("b"))
    for chain in (one, other):
        extend(chain, [Segment(b"x" * 100, 0, 100)], 10)
    assert set(one.hashes).isdisjoint(other.hashes)


@given(SEGMENTS, st.integers(1, 40), st.data())
def test_a_part_of_a_chain_knows_the_segments_that_end_in_it(
    segments: list[Segment], block_bytes: int, data: st.DataObject
) -> None:
    chain = Chain()
    extend(chain, segments, block_bytes)
    part = chain.until(data.draw(st.integers(0, len(chain))))
    assert [end for end in chain.segment_ends if end <= len(part)] == list(part.segment_ends)
    assert part.items == chain.items[: len(part.segment_ends)]
    assert unpack(pack(part)) == part == part.copy()


def test_long_segments_are_cut_alike() -> None:
    segments = [Segment(b"head\0" + bytes([number]) * 40_000, 5, 40_000) for number in range(3)]
    chain, twin = Chain(), naive(segments, 64, 30_000)
    extend(chain, segments, 64, 30_000)
    assert chain.hashes == twin.hashes
    assert chain.text_bytes == twin.text_bytes
    assert chain.segment_ends == twin.segment_ends
