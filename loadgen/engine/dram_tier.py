"""Second tier as LMCache keeps it: least recently used chunks of prompt tokens in host memory.

A chunk is 256 tokens and is named by the chained hash of its last block. Chunks are stored as
prefill computes them, found when HBM misses, and touched tail first, so a chain again loses its
tail before its head.
"""

from collections.abc import Callable

from loadgen.engine.run_tree import HASH_BYTES, RunTree

CHUNK_TOKENS = 256


class DramTier:
    """`capacity_tokens` of room in whole chunks; `block_size` must divide the chunk."""

    def __init__(self, capacity_tokens: int, block_size: int) -> None:
        if CHUNK_TOKENS % block_size:
            raise ValueError(f"block size {block_size} does not divide {CHUNK_TOKENS} tokens")
        if capacity_tokens < CHUNK_TOKENS:
            raise ValueError(f"a DRAM tier of {capacity_tokens} tokens does not hold one chunk")
        self._blocks_per_chunk = CHUNK_TOKENS // block_size
        self._tree = RunTree(capacity_tokens // CHUNK_TOKENS)

    @property
    def capacity_tokens(self) -> int:
        return self._tree.capacity * CHUNK_TOKENS

    @property
    def evicted_chunks(self) -> int:
        return self._tree.evicted_blocks

    def chunk_chain(self, chain: bytes) -> bytes:
        """Chunk hashes of a block chain: every chunk's last block."""
        words = memoryview(chain).cast("Q")
        return words[self._blocks_per_chunk - 1 :: self._blocks_per_chunk].tobytes()

    def lookup(self, chunks: bytes, limit: int) -> int:
        """Leading chunks present, at most `limit`; touches them."""
        found = self._tree.match(chunks, limit).blocks
        if found:
            self._tree.unpin(self._tree.pin(chunks, found))
        return found

    def peek(self, chain: bytes) -> int:
        """Leading chunks of a block chain that are present; touches nothing."""
        return self.held(self.chunk_chain(chain))

    def held(self, chunks: bytes) -> int:
        """The same for chunk hashes."""
        return self._tree.match(chunks, len(chunks) // HASH_BYTES).blocks

    def tell(self, evicted: Callable[[bytes], None]) -> None:
        """Call this with the keys of chunks that are evicted."""
        self._tree.on_evicted = evicted

    def store(self, chunks: bytes, upto: int) -> tuple[int, int]:
        """Keep the first `upto` chunks, evicting the least recently used ones; a chain longer
        than the whole tier keeps its head. Returns the range that is new."""
        upto = min(upto, len(chunks) // HASH_BYTES, self._tree.capacity)
        hold = self._tree.pin(chunks, self._tree.match(chunks, upto).blocks)
        first = hold.cached_blocks
        missing = upto - first
        if missing > 0:
            stored = self._tree.allocate(hold, missing)
            assert stored, "chunks are pinned only while they are stored"
            self._tree.insert(hold, chunks, upto)
        self._tree.unpin(hold)
        return first, max(first, upto)

    def reset(self) -> None:
        cleared = self._tree.reset()
        assert cleared, "chunks are pinned only while they are stored"
