"""A cache of prefixes with vLLM's eviction order, in runs of blocks instead of single blocks.

vLLM frees the blocks of a finished request tail first into one LRU queue, and a request that uses a
block uses all before it. So a prefix is never older than what follows it, and evicting the oldest
leaf from its tail is exactly that queue's order. Runs make a touch proportional to the branches of
a conversation, not to its blocks. `tests/property` holds this to the per-block queue.
"""

import heapq
from array import array
from collections.abc import Container, Sequence
from itertools import count

from kvproxy.core.runs import Later, Run

_NOTHING = array("Q")
# No prompt has fewer tokens a block than this: a few are any message's frame. Where engines count
# fewer, it is blocks that are bounded, for they are what takes memory. Few are never too many.
_BLOCK_TOKENS_MIN, _BLOCKS_FEW = 4, 4096


class PrefixTree:
    """Bounded by `capacity`, in whatever unit block sizes are given, and in `blocks`. Pinned runs
    are never evicted, even when they exceed it."""

    def __init__(self, capacity: int) -> None:
        assert capacity >= 0
        self.capacity = capacity
        self.size = 0
        self.blocks = 0
        self.blocks_max = _blocks_max(capacity)
        self.runs = 0
        self.evicted = 0
        self._root = Run(None, _NOTHING, array("I"), 0)
        # First blocks that are held: most replicas hold none of most prompts.
        self.beginnings: Container[int] = self._root.children
        self._clock = count(1)
        self._tick = count()
        self._leaves: list[tuple[int, int, Run]] = []

    def match(self, hashes: Sequence[int]) -> int:
        """Number of leading blocks of `hashes` that are held. Changes nothing."""
        return self.find(hashes)[0]

    def find(self, hashes: Sequence[int]) -> tuple[int, bool]:
        """match(), and whether other blocks than those of `hashes` are held behind them."""
        run, at, size = self._root, 0, len(hashes)
        while at < size:
            child = run.children.get(hashes[at])
            if child is None:
                break
            # What common() finds first, spelt out: nearly always all of it.
            end = at + len(child.hashes)
            if end > size or child.hashes[-1] != hashes[end - 1]:
                return at + child.common(hashes, at), True
            run, at = child, end
        return at, bool(run.children)

    def parting(self, hashes: Sequence[int], blocks: int) -> Run | None:
        """The run that ends with the first `blocks` blocks of `hashes`, if both they and another
        held chain go on behind it."""
        run, at = self._root, 0
        while at < blocks:
            child = run.children.get(hashes[at])
            if child is None:
                return None
            run, at = child, at + len(child.hashes)
            # Chains that are alike in a block are so in all before it.
            if at > blocks or child.hashes[-1] != hashes[at - 1]:
                return None
        return run if at == blocks and len(run.children) > 1 else None

    def pin(self, hashes: Sequence[int]) -> tuple[Run, int]:
        """Keep the longest held prefix of `hashes` from eviction; (its end, its blocks).

        The end, or what extend() makes of it, must be given to release() exactly once.
        """
        run, at, size = self._root, 0, len(hashes)
        while at < size:
            child = run.children.get(hashes[at])
            if child is None:
                break
            end = at + len(child.hashes)
            if end > size or child.hashes[-1] != hashes[end - 1]:
                shared = child.common(hashes, at)
                run, at = self._split(child, shared), at + shared
                run.pins += 1
                break
            child.pins += 1
            run, at = child, end
        return run, at

    def extend(self, end: Run, hashes: Sequence[int], ends: Sequence[int]) -> Run:
        """Add blocks behind a pinned end, ends[i] the position where block i ends in its chain;
        returns the new end.

        Others are evicted to make room. In place if the run is the caller's alone.
        """
        assert len(hashes) == len(ends)
        if not len(hashes):
            return end
        before = end.ends
        run = self._add(end, array("Q", hashes), ends[-1])
        if run is end:
            before.extend(array("I", ends))
        else:
            run.ends.extend(array("I", ends))
        return run

    def grow(self, end: Run, hashes: "array[int]", position: int, later: Later) -> Run:
        """As extend(), where it is known of the last block alone where it ends. `hashes` are the
        tree's from now on, and there are some."""
        run = self._add(end, hashes, position)
        run.put_off(later)
        return run

    def _add(self, end: Run, hashes: "array[int]", position: int) -> Run:
        """The run whose last blocks these are."""
        size = position - end.end
        if self.size + size > self.capacity:
            self._shrink(size)
        self.size += size
        self.blocks += len(hashes)
        if end is not self._root and end.pins == 1 and not end.children:
            end.hashes.extend(hashes)
            end.end = position
            return end
        assert hashes[0] not in end.children, "extend() starts where pin() stopped"
        run = Run(end, hashes, array("I"), position)
        run.pins = 1
        end.children[hashes[0]] = run
        self.runs += 1
        return run

    def correct(self, end: Run, position: int) -> None:
        """The chain that ends with `end`, which is pinned, is so long and not as was believed; its
        last blocks bear the difference. Not when others go on behind it."""
        # What took no room would never be evicted, however much of it there were.
        position = max(position, end.start + 1)
        if end.hashes and not end.children and end.end != position:
            before = end.end
            end.move_end(position)
            self.size += end.end - before

    def place(self, parting: Run, position: int) -> None:
        """Chains part there, which is not where it was believed to be. Those that go on behind it
        end where they did: what one has less of, each of the others has more of."""
        if not parting.hashes:
            return
        before = parting.end
        parting.move_end(min(position, *(child.first_end for child in parting.children.values())))
        self.size += (parting.end - before) * (1 - len(parting.children))
        if self.size > self.capacity:
            self._shrink()

    def alone(self, first: int) -> int:
        """The size of a chain that is one run, 0 if it is not held or goes on."""
        run = self._root.children.get(first)
        return run.end if run is not None and not run.children else 0

    def drop(self, first: int) -> None:
        """Forget a chain that is one run, unless it is pinned or goes on."""
        run = self._root.children.get(first)
        if run is None or run.pins or run.children:
            return
        del self._root.children[first]
        self.size -= run.end
        self.blocks -= len(run.hashes)
        self.runs -= 1
        # Its place in the queue is seen to be stale.
        run.empty()

    def release(self, end: Run, at: float = 0.0, retention_s: float = 0.0) -> None:
        """Unpin what pin() or extend() returned; the whole path becomes most recently used.

        `at` is the time and `retention_s` how long it is wanted from then on: next_victim() has
        both.
        """
        now, run = next(self._clock), end
        while run.parent is not None:
            assert run.pins > 0, "released twice"
            run.pins -= 1
            run.last_use, run.used_at, run.retention_s = now, at, retention_s
            run = run.parent
        # None but the end can be a leaf, and the root is none.
        if end.hashes and not end.pins and not end.children:
            self._offer(end)
        if self.size > self.capacity or self.blocks > self.blocks_max:
            self._shrink()

    def keep(self, block: int, size: int, at: float = 0.0, retention_s: float = 0.0) -> None:
        """pin, extend and release at once for a block that no other comes before or behind."""
        run = self._root.children.get(block)
        if run is None:
            if self.size + size > self.capacity:
                self._shrink(size)
            run = Run(self._root, array("Q", (block,)), array("I", (size,)), size)
            self._root.children[block] = run
            self.size += size
            self.blocks += 1
            self.runs += 1
        run.last_use, run.used_at, run.retention_s = next(self._clock), at, retention_s
        self._offer(run)
        if self.size > self.capacity or self.blocks > self.blocks_max:
            self._shrink()

    def next_victim(self) -> Run | None:
        """The run whose last blocks would be evicted first; None: nothing is evictable."""
        leaves = self._leaves
        while leaves:
            last_use, _, run = leaves[0]
            # _is_live, spelt out: every replica is asked for every decision.
            if run.last_use == last_use and not run.pins and not run.children and run.hashes:
                return run
            heapq.heappop(leaves)
        return None

    def clear(self) -> None:
        """Drop everything that is not pinned, as a cache reset does."""
        capacity, self.capacity = self.capacity, 0
        self._shrink()
        self.capacity = capacity

    def resize(self, capacity: int) -> None:
        if capacity != self.capacity:
            self.capacity, self.blocks_max = capacity, _blocks_max(capacity)
        if self.size > capacity or self.blocks > self.blocks_max:
            self._shrink()

    def _split(self, run: Run, blocks: int) -> Run:
        """Put the first `blocks` of `run` above it; whoever pinned the run pins both parts."""
        parent = run.parent
        assert parent is not None and 0 < blocks < len(run.hashes)
        ends = run.ends
        upper = Run(parent, run.hashes[:blocks], ends[:blocks], ends[blocks - 1])
        upper.pins, upper.last_use = run.pins, run.last_use
        upper.used_at, upper.retention_s = run.used_at, run.retention_s
        parent.children[upper.hashes[0]] = upper
        run.hashes = run.hashes[blocks:]
        run.ends = ends[blocks:]
        run.parent = upper
        upper.children[run.hashes[0]] = run
        self.runs += 1
        return upper

    def _offer(self, run: Run) -> None:
        """Remember an evictable leaf. Entries go stale when the run is used again: see _shrink."""
        heapq.heappush(self._leaves, (run.last_use, next(self._tick), run))
        if len(self._leaves) > 2 * self.runs + 64:
            self._leaves = [entry for entry in self._leaves if self._is_live(entry)]
            heapq.heapify(self._leaves)

    def _is_live(self, entry: tuple[int, int, Run]) -> bool:
        last_use, _, run = entry
        return run.last_use == last_use and not run.pins and not run.children and bool(run.hashes)

    def _shrink(self, wanted: int = 0) -> None:
        """Evict the oldest leaves from their tails until `wanted` more fits."""
        leaves = self._leaves
        while leaves:
            excess, over = self.size + wanted - self.capacity, self.blocks - self.blocks_max
            if excess <= 0 and over <= 0:
                break
            oldest = leaves[0]
            last_use, _, run = oldest
            # _is_live, spelt out: so it is for every turn that is evicted.
            live = run.last_use == last_use and not run.pins and not run.children and run.hashes
            # What was before it may be offered in its place.
            if not (live and self._trim(run, excess, over)) and leaves[0] is oldest:
                heapq.heappop(leaves)

    def _trim(self, run: Run, excess: int, over: int) -> int:
        """Cut blocks off the tail of `run` until `excess` and `over` blocks are gone or the run is;
        how many are left."""
        before, start, count, first = run.end, run.start, len(run.hashes), run.hashes[0]
        keep = 0
        if before - excess >= start and over < count:
            keep = run.cut(before - excess, count - over)
        self.blocks -= count - keep
        freed = before - (run.end if keep else start)
        self.size -= freed
        self.evicted += freed
        if not keep:
            parent = run.parent
            assert parent is not None
            del parent.children[first]
            run.empty()
            self.runs -= 1
            if parent.hashes and not parent.pins and not parent.children:
                self._offer(parent)
        return keep


def _blocks_max(capacity: int) -> int:
    return max(_BLOCKS_FEW, capacity // _BLOCK_TOKENS_MIN)
