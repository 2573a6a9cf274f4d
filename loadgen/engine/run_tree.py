"""Pool of cached KV blocks with vLLM's eviction order, kept as runs of blocks in a radix tree.

vLLM frees the blocks of a finished request tail first to the end of one free queue, and takes new
blocks from its head. A prefix is always pinned with its descendants, so the queue never separates
the blocks of a run except at its tail: a queue of runs is the same queue, and a 100k-token prompt
costs a handful of operations instead of thousands. One difference is modelled: when two requests
compute the same block at once, vLLM keeps both copies cached; here the second copy is private to
its request (and blank when that ends) while the request also pins the first.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

HASH_BYTES = 8  # a chain is `bytes`: one 8-byte hash per block, each covering all before it


class Match(NamedTuple):
    """`blocks` leading blocks of a chain are cached; `unpinned` of them may still be evicted."""

    blocks: int
    unpinned: int


class Run:
    """Consecutive blocks [start, end) of a chain; `keys` holds their hashes from `base` on.

    `refs` counts the holds whose path goes through the run. While its only hold keeps growing,
    `keys` is that request's whole chain, so growing is just moving `end`.
    """

    __slots__ = ("base", "children", "end", "keys", "parent", "refs", "start")

    def __init__(self, keys: bytes, base: int, start: int, end: int, parent: "Run | None") -> None:
        self.keys = keys
        self.base = base
        self.start = start
        self.end = end
        self.parent = parent
        self.children: dict[bytes, Run] = {}
        self.refs = 0

    def key(self, block: int) -> bytes:
        at = (block - self.base) * HASH_BYTES
        return self.keys[at : at + HASH_BYTES]

    def own_keys(self) -> bytes:
        first, last = self.start - self.base, self.end - self.base
        return self.keys[first * HASH_BYTES : last * HASH_BYTES]


class Blank:
    """Free blocks without content, in their place in the free queue."""

    __slots__ = ("blocks",)

    def __init__(self, blocks: int) -> None:
        self.blocks = blocks


class Hold:
    """Blocks in use by one request: the path down to `tip`, plus `private` uncached ones."""

    __slots__ = ("private", "tip")

    def __init__(self, tip: Run) -> None:
        self.tip = tip
        self.private = 0

    @property
    def cached_blocks(self) -> int:
        return self.tip.end


class RunTree:
    """`capacity` blocks, each private to a hold, cached (pinned or free) or blank."""

    def __init__(self, capacity: int) -> None:
        assert capacity > 0
        self.capacity = capacity
        self.evicted_blocks = 0
        self.on_evicted: Callable[[bytes], None] | None = None
        self._root = Run(b"", 0, 0, 0, None)
        self._free: OrderedDict[Run | Blank, None] = OrderedDict({Blank(capacity): None})
        self._free_blocks = capacity

    @property
    def free_blocks(self) -> int:
        """Blocks that `allocate` may take, cached or blank."""
        return self._free_blocks

    @property
    def used_blocks(self) -> int:
        return self.capacity - self._free_blocks

    def match(self, chain: bytes, limit: int) -> Match:
        """Longest cached prefix of at most `limit` blocks. Changes nothing."""
        run, blocks = self._descend(self._root, chain, limit)
        unpinned = 0
        depth = blocks
        while run.refs == 0 and run.parent is not None:
            unpinned += depth - run.start
            depth = run.start
            run = run.parent
        return Match(blocks, unpinned)

    def pin(self, chain: bytes, blocks: int) -> Hold:
        """Hold the first `blocks` blocks of `chain`, all of which must be cached."""
        hold = Hold(self._root)
        adopted = self._adopt(hold, chain, blocks)
        assert adopted == blocks, "pin of blocks that are not cached"
        return hold

    def allocate(self, hold: Hold, blocks: int) -> bool:
        """Give `hold` private blocks, evicting from the head of the queue; False: none taken."""
        if blocks > self._free_blocks:
            return False
        self._free_blocks -= blocks
        hold.private += blocks
        while blocks:
            head = next(iter(self._free))
            if isinstance(head, Blank):
                taken = min(blocks, head.blocks)
                head.blocks -= taken
                if not head.blocks:
                    del self._free[head]
            else:
                taken = min(blocks, head.end - head.start)
                self._evict(head, taken)
            blocks -= taken
        return True

    def insert(self, hold: Hold, chain: bytes, upto: int) -> int:
        """Cache private blocks of `hold` as blocks [cached_blocks, upto) of its chain; how many
        were not cached before.

        Blocks that another request cached meanwhile are pinned as they are; our copies of those
        stay private.
        """
        self._adopt(hold, chain, upto)
        tip = hold.tip
        fresh = upto - tip.end
        if fresh <= 0:
            return 0
        assert fresh <= hold.private, "insert of blocks that were not allocated"
        hold.private -= fresh
        if tip.refs == 1 and not tip.children and tip.keys is chain:
            tip.end = upto
            return fresh
        run = Run(chain, 0, tip.end, upto, tip)
        run.refs = 1
        tip.children[run.key(run.start)] = run
        hold.tip = run
        return fresh

    def unpin(self, hold: Hold) -> None:
        """End of a request: its blocks go to the end of the queue, from the tail of its chain to
        the head; private ones, which nobody can ask for, are the first to be used again."""
        if hold.private:
            blank = Blank(hold.private)
            self._free[blank] = None
            self._free.move_to_end(blank, last=False)
            self._free_blocks += hold.private
            hold.private = 0
        below: Run | None = None
        run = hold.tip
        hold.tip = self._root
        while run.parent is not None:
            parent = run.parent
            run.refs -= 1
            if run.refs == 0:
                self._free_blocks += run.end - run.start
                below = self._enqueue(run, below)
            elif len(run.children) == 1:
                # Equal counts: no hold ends between the two, so they are one run again. Without
                # this a conversation with overlapping turns becomes a deep tree.
                (child,) = run.children.values()
                if child.refs == run.refs:
                    _absorb(run, child)
            run = parent

    def reset(self) -> bool:
        """Forget all content; refused (False) while any block is in use, as vLLM does."""
        if self._free_blocks != self.capacity:
            return False
        self._root.children.clear()
        self._free = OrderedDict({Blank(self.capacity): None})
        return True

    def contents(self) -> set[bytes]:
        """Hashes of all cached blocks: O(blocks), for checks."""
        found: set[bytes] = set()
        stack = list(self._root.children.values())
        while stack:
            run = stack.pop()
            found.update(run.key(block) for block in range(run.start, run.end))
            stack.extend(run.children.values())
        return found

    def _descend(self, run: Run, chain: bytes, limit: int) -> tuple[Run, int]:
        """Deepest run holding a prefix of `chain` below `run`, and the length of that prefix."""
        depth = run.end
        while depth < limit:
            child = run.children.get(chain[depth * HASH_BYTES : (depth + 1) * HASH_BYTES])
            if child is None:
                break
            depth = _common_end(child, chain, limit)
            run = child
            if depth < child.end:
                break
        return run, depth

    def _adopt(self, hold: Hold, chain: bytes, upto: int) -> int:
        """Extend the pinned path of `hold` over blocks already cached; its new length."""
        start = hold.tip
        run, depth = self._descend(start, chain, upto)
        if depth < run.end:
            run = self._split(run, depth)
        hold.tip = run
        while run is not start:
            if run.refs == 0:
                del self._free[run]
                self._free_blocks -= run.end - run.start
            run.refs += 1
            assert run.parent is not None
            run = run.parent
        return depth

    def _split(self, run: Run, at: int) -> Run:
        """Cut `run` in two; it keeps the lower part and its place in the queue."""
        parent = run.parent
        assert parent is not None and run.start < at < run.end
        upper = Run(run.keys, run.base, run.start, at, parent)
        upper.refs = run.refs
        parent.children[upper.key(upper.start)] = upper
        run.start = at
        run.parent = upper
        upper.children[run.key(at)] = run
        if run.refs == 0:
            self._free[upper] = None  # out of order, but the caller pins it before anyone looks
        return upper

    def _enqueue(self, run: Run, below: Run | None) -> Run:
        """Put a run at the end of the queue, joined with the run just queued if that is its only
        child: the two are one run from now on, and chains of turns stay shallow."""
        if below is not None and below.parent is run and len(run.children) == 1:
            _absorb(run, below)
            return below
        run.keys = run.own_keys()  # drop the rest of the request's chain
        run.base = run.start
        self._free[run] = None
        return run

    def _evict(self, run: Run, blocks: int) -> None:
        assert run.refs == 0 and not run.children, "a run left the queue before its descendants"
        self.evicted_blocks += blocks
        first = run.key(run.start)
        if self.on_evicted is not None:
            at = (run.end - run.base) * HASH_BYTES
            self.on_evicted(run.keys[at - blocks * HASH_BYTES : at])
        run.end -= blocks
        if run.end == run.start:
            assert run.parent is not None
            del run.parent.children[first]
            del self._free[run]


def _absorb(run: Run, child: Run) -> None:
    """Make a run and its only child one, which is the child: holds may end there."""
    assert run.parent is not None
    if child.base > run.start:
        child.keys = run.own_keys() + child.own_keys()
        child.base = run.start
    child.start = run.start
    child.parent = run.parent
    run.parent.children[child.key(child.start)] = child


def _common_end(run: Run, chain: bytes, limit: int) -> int:
    """Where `chain` leaves `run`, whose first block it shares. Hashes are chained, so one equal
    block proves all before it equal: binary search."""
    low = run.start + 1
    high = min(run.end, limit)
    if chain[(high - 1) * HASH_BYTES : high * HASH_BYTES] == run.key(high - 1):
        return high
    while low < high:
        middle = (low + high) // 2
        if chain[middle * HASH_BYTES : (middle + 1) * HASH_BYTES] == run.key(middle):
            low = middle + 1
        else:
            high = middle
    return low
