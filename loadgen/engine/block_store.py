"""Blocks of sequences across both tiers: what a sequence hits, takes, caches and gives back."""

from collections.abc import Sequence as Sequences

from loadgen.engine.block_log import BlockLog
from loadgen.engine.dram_tier import CHUNK_TOKENS, DramTier
from loadgen.engine.rates import EngineLimits
from loadgen.engine.run_tree import HASH_BYTES, Hold, RunTree
from loadgen.engine.sequence import Sequence


class BlockStore:
    """The HBM pool, and the DRAM tier behind it if there is one; counters are in tokens."""

    def __init__(self, limits: EngineLimits) -> None:
        self._block_size = limits.block_size
        self._caching = limits.prefix_caching
        self.hbm = RunTree(limits.num_blocks)
        self.dram = DramTier(limits.dram_tokens, limits.block_size) if limits.dram_tokens else None
        self._log: BlockLog | None = None
        self.prefix_queries = 0
        self.prefix_hits = 0
        self.dram_queries = 0
        self.dram_hits = 0

    def blocks_of(self, tokens: int) -> int:
        return -(-tokens // self._block_size)

    def admit(self, sequence: Sequence) -> tuple[int, int, int] | None:
        """Pin what is cached and take blocks for what DRAM or a peer holds: (HBM, DRAM, peer) hit
        in tokens, or None when the known tokens would not fit as a whole. The last known token
        never hits: computing it yields the next one."""
        chain = sequence.request.chain
        known = sequence.known
        limit = (known - 1) // self._block_size if self._caching else 0
        match = self.hbm.match(chain, limit)
        needed = self.blocks_of(known) - match.blocks + match.unpinned
        if needed > self.hbm.free_blocks:
            return None
        hbm_hit = match.blocks * self._block_size
        sequence.hold = self.hbm.pin(chain, match.blocks)
        sequence.blocks = match.blocks
        dram_hit = self._dram_hit(sequence, hbm_hit)
        remote_hit = self._remote_hit(sequence, hbm_hit + dram_hit)
        sequence.computed = hbm_hit
        if dram_hit + remote_hit:
            blocks = (dram_hit + remote_hit) // self._block_size
            taken = self.hbm.allocate(sequence.hold, blocks)
            assert taken, "checked above"
            sequence.blocks += blocks
            sequence.computed += dram_hit + remote_hit
        if not sequence.counted:
            self.prefix_queries += known
            self.prefix_hits += hbm_hit
            if self.dram is not None:
                self.dram_queries += known - hbm_hit
                self.dram_hits += dram_hit
            sequence.hbm_hit, sequence.dram_hit = hbm_hit, dram_hit
            sequence.remote_hit = remote_hit
            sequence.counted = True
        return hbm_hit, dram_hit, remote_hit

    def match(self, chain: bytes) -> tuple[int, int]:
        """Leading blocks held in either tier, and in HBM. Touches nothing."""
        hbm = self.hbm.match(chain, len(chain) // HASH_BYTES).blocks
        if self.dram is None:
            return hbm, hbm
        return max(hbm, self.dram.peek(chain) * CHUNK_TOKENS // self._block_size), hbm

    def loaded(self, sequence: Sequence) -> None:
        """The blocks that were loaded are valid now, for everyone."""
        assert sequence.hold is not None
        self._insert(sequence, sequence.hold, sequence.computed // self._block_size)

    def grow(self, sequence: Sequence, tokens: int) -> bool:
        """Take the blocks that `tokens` computed tokens need and cache those that become full;
        False, and nothing taken, when there are not enough. Nothing to do, and slow to ask, below
        `sequence.grow_at` tokens."""
        hold = sequence.hold
        assert hold is not None
        needed = self.blocks_of(tokens) - sequence.blocks
        if needed > 0:
            if not self.hbm.allocate(hold, needed):
                return False
            sequence.blocks += needed
        sequence.grow_at = tokens + (-tokens % self._block_size or 1)
        if self._caching:
            chain = sequence.request.chain
            full = min(tokens // self._block_size, len(chain) // HASH_BYTES)
            if full > hold.cached_blocks:
                self._insert(sequence, hold, full)
            if self.dram is not None:
                self._store_chunks(sequence, min(tokens, sequence.request.prompt_tokens))
        return True

    def fits(self, decodes: Sequences[Sequence], steps: int) -> bool:
        """Whether every sequence can surely decode `steps` steps with the blocks there are: each
        new block may also pin an evictable one with the same content."""
        size = self._block_size
        needed = 0
        for sequence in decodes:
            needed += max(0, -(-(sequence.computed + steps) // size) - sequence.blocks)
        return 2 * needed <= self.hbm.free_blocks

    def release(self, sequence: Sequence) -> None:
        """Give all blocks back; cached ones stay cached until they are evicted."""
        if sequence.hold is not None:
            self.hbm.unpin(sequence.hold)
            sequence.hold = None
            if self._log is not None:
                self._log.released(sequence.request)
        sequence.blocks = sequence.computed = sequence.grow_at = 0
        sequence.decoding = False

    def tell(self, log: BlockLog) -> None:
        """Say from now on what happens to blocks."""
        self._log = log
        self.hbm.on_evicted = log.evicted
        if self.dram is not None:
            self.dram.tell(log.chunks_evicted)

    def _insert(self, sequence: Sequence, hold: Hold, upto: int) -> None:
        start = hold.cached_blocks
        fresh = self.hbm.insert(hold, sequence.request.chain, upto)
        if self._log is not None:
            self._log.stored(sequence.request, start, upto, fresh)

    def _dram_hit(self, sequence: Sequence, hbm_hit: int) -> int:
        """Tokens that DRAM adds to the HBM hit, up to a whole chunk of the prompt."""
        if self.dram is None or not self._caching:
            return 0
        if not sequence.chunks:
            sequence.chunks = self.dram.chunk_chain(sequence.request.chain)
        found = self.dram.lookup(sequence.chunks, (sequence.known - 1) // CHUNK_TOKENS)
        sequence.stored_chunks = found
        return max(0, found * CHUNK_TOKENS - hbm_hit)

    def _remote_hit(self, sequence: Sequence, held: int) -> int:
        """Tokens that a peer adds to what is `held` here, in whole blocks; a request that was
        preempted has had its transfer."""
        if sequence.counted:
            return 0
        known = min(sequence.request.remote_tokens, sequence.known - 1)
        return max(0, known // self._block_size * self._block_size - held)

    def _store_chunks(self, sequence: Sequence, tokens: int) -> None:
        assert self.dram is not None
        upto = tokens // CHUNK_TOKENS
        if upto > sequence.stored_chunks:
            first, last = self.dram.store(sequence.chunks, upto)
            if self._log is not None and first < last:
                blocks = CHUNK_TOKENS // self._block_size
                self._log.chunks_stored(sequence.request, first * blocks, last * blocks)
            sequence.stored_chunks = upto
