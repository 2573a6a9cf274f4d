from collections import OrderedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.engine.dram_tier import CHUNK_TOKENS, DramTier


def chunks_of(*labels: int) -> bytes:
    hashes = (hash(labels[:end]) & (2**64 - 1) for end in range(1, len(labels) + 1))
    return b"".join(one.to_bytes(8, "little") for one in hashes)


class NaiveTier:
    """Chunks in one LRU, touched and stored tail first."""

    def __init__(self, chunks: int) -> None:
        self.capacity = chunks
        self.lru: OrderedDict[bytes, None] = OrderedDict()

    def lookup(self, keys: list[bytes], limit: int) -> int:
        found = 0
        while found < min(limit, len(keys)) and keys[found] in self.lru:
            found += 1
        for key in reversed(keys[:found]):
            self.lru.move_to_end(key)
        return found

    def store(self, keys: list[bytes], upto: int) -> None:
        upto = min(upto, len(keys), self.capacity)
        self.lookup(keys, upto)  # not evicted to make room for their own tail
        missing = [key for key in keys[:upto] if key not in self.lru]
        while len(self.lru) + len(missing) > self.capacity:
            self.lru.popitem(last=False)
        for key in reversed(keys[:upto]):
            self.lru[key] = None
            self.lru.move_to_end(key)


@given(
    capacity=st.integers(1, 8),
    calls=st.lists(
        st.tuples(st.booleans(), st.lists(st.integers(0, 1), max_size=6), st.integers(0, 6)),
        max_size=40,
    ),
)
def test_equals_naive_twin(capacity, calls):
    tier, twin = DramTier(capacity * CHUNK_TOKENS, 16), NaiveTier(capacity)
    for stores, labels, count in calls:
        chunks = chunks_of(*labels)
        keys = [chunks[at : at + 8] for at in range(0, len(chunks), 8)]
        if stores:
            tier.store(chunks, count)
            twin.store(keys, count)
        else:
            assert tier.lookup(chunks, count) == twin.lookup(keys, count)
    assert tier._tree.contents() == set(twin.lru)


def test_chunk_hashes_are_those_of_their_last_block():
    tier = DramTier(1024, 64)
    chain = b"".join(bytes([block]) * 8 for block in range(11))
    assert tier.chunk_chain(chain) == bytes([3]) * 8 + bytes([7]) * 8


def test_sizes_are_checked():
    with pytest.raises(ValueError, match="does not divide"):
        DramTier(1024, 48)
    with pytest.raises(ValueError, match="one chunk"):
        DramTier(255, 16)
    assert DramTier(1000, 16).capacity_tokens == 768


def test_reset_forgets():
    tier = DramTier(1024, 16)
    tier.store(chunks_of(1, 2), 2)
    tier.reset()
    assert tier.lookup(chunks_of(1, 2), 2) == 0
