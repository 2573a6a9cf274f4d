"""The run tree against a naive twin that works block by block, as vLLM does."""

from collections import OrderedDict
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadgen.engine.run_tree import HASH_BYTES, RunTree


@dataclass(eq=False)
class Block:
    hash: bytes | None = None
    refs: int = 0


@dataclass
class NaiveHold:
    cached: list[Block] = field(default_factory=list)
    private: list[Block] = field(default_factory=list)


class NaivePool:
    """One object per block, one ordered dict as free queue."""

    def __init__(self, capacity: int) -> None:
        self.free: OrderedDict[Block, None] = OrderedDict((Block(), None) for _ in range(capacity))
        self.cached: dict[bytes, Block] = {}
        self.evicted: list[bytes] = []

    def match(self, chain: bytes, limit: int) -> list[Block]:
        found: list[Block] = []
        for key in keys_of(chain)[:limit]:
            if key not in self.cached:
                break
            found.append(self.cached[key])
        return found

    def pin(self, chain: bytes, blocks: int) -> NaiveHold:
        hold = NaiveHold()
        for block in self.match(chain, blocks):
            self._touch(hold, block)
        return hold

    def allocate(self, hold: NaiveHold, count: int) -> bool:
        if count > len(self.free):
            return False
        for _ in range(count):
            block, _ = self.free.popitem(last=False)
            if block.hash is not None:
                self.evicted.append(block.hash)
                del self.cached[block.hash]
                block.hash = None
            hold.private.append(block)
        return True

    def insert(self, hold: NaiveHold, chain: bytes, upto: int) -> None:
        for key in keys_of(chain)[len(hold.cached) : upto]:
            if key in self.cached:
                self._touch(hold, self.cached[key])
            else:
                block = hold.private.pop()
                block.hash, block.refs = key, 1
                self.cached[key] = block
                hold.cached.append(block)

    def unpin(self, hold: NaiveHold) -> None:
        for block in hold.private:
            self.free[block] = None
            self.free.move_to_end(block, last=False)
        for block in reversed(hold.cached):
            block.refs -= 1
            if block.refs == 0:
                self.free[block] = None

    def reset(self) -> None:
        for block in self.cached.values():
            block.hash = None
        self.cached.clear()

    def _touch(self, hold: NaiveHold, block: Block) -> None:
        if block.refs == 0:
            del self.free[block]
        block.refs += 1
        hold.cached.append(block)


def keys_of(chain: bytes) -> list[bytes]:
    return [chain[at : at + HASH_BYTES] for at in range(0, len(chain), HASH_BYTES)]


def chain_of(*labels: int) -> bytes:
    """A chain whose block i depends on labels[: i + 1], like a real one."""
    hashes = (hash(labels[:end]) & (2**64 - 1) for end in range(1, len(labels) + 1))
    return b"".join(one.to_bytes(HASH_BYTES, "little") for one in hashes)


CHAINS = st.lists(st.integers(0, 1), min_size=1, max_size=9).map(lambda labels: chain_of(*labels))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("serve"), CHAINS, st.booleans()),
        st.tuples(st.just("begin"), CHAINS, st.integers(0, 9)),
        st.tuples(st.just("grow"), st.integers(0, 9), st.integers(1, 4)),
        st.tuples(st.just("spare"), st.integers(0, 9), st.integers(1, 2)),
        st.tuples(st.just("end"), st.integers(0, 9), st.just(0)),
        st.tuples(st.just("reset"), st.just(0), st.just(0)),
    ),
    min_size=8,
    max_size=60,
)


class Both:
    """The tree and its twin under the same calls."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.tree, self.twin = RunTree(capacity), NaivePool(capacity)
        self.holds: list = []
        self.chains: set[bytes] = set()

    def begin(self, chain: bytes, limit: int) -> None:
        self.chains.add(chain)
        limit = min(limit, len(chain) // HASH_BYTES)
        match, found = self.tree.match(chain, limit), self.twin.match(chain, limit)
        assert match.blocks == len(found)
        assert match.unpinned == sum(block.refs == 0 for block in found)
        pins = self.tree.pin(chain, match.blocks), self.twin.pin(chain, match.blocks)
        self.holds.append((*pins, chain))

    def allocate(self, index: int, count: int) -> bool:
        hold, twin_hold, _ = self.holds[index]
        granted = self.tree.allocate(hold, count)
        assert granted == self.twin.allocate(twin_hold, count)
        return granted

    def grow(self, index: int, count: int) -> None:
        hold, twin_hold, chain = self.holds[index]
        upto = min(hold.cached_blocks + count, len(chain) // HASH_BYTES)
        if self.allocate(index, upto - hold.cached_blocks):
            self.tree.insert(hold, chain, upto)
            self.twin.insert(twin_hold, chain, upto)
            assert hold.cached_blocks == len(twin_hold.cached)
            assert hold.private == len(twin_hold.private)

    def end(self, index: int) -> None:
        hold, twin_hold, _ = self.holds.pop(index)
        self.tree.unpin(hold)
        self.twin.unpin(twin_hold)

    def reset(self) -> None:
        idle = len(self.twin.free) == self.capacity
        assert self.tree.reset() == idle
        if idle:
            self.twin.reset()

    def check(self) -> None:
        assert self.tree.free_blocks == len(self.twin.free)
        assert self.tree.contents() == set(self.twin.cached)
        for chain in self.chains:  # what is there must be found, too
            assert self.tree.match(chain, len(chain) // HASH_BYTES).blocks == len(
                self.twin.match(chain, 9)
            )
        assert self.tree.evicted_blocks == len(self.twin.evicted)


@settings(max_examples=500, deadline=None)
@given(capacity=st.integers(3, 24), steps=STEPS)
def test_equals_naive_twin(capacity, steps):
    both = Both(capacity)
    for verb, first, second in steps:
        if verb == "serve":  # a whole request, which may stay
            both.begin(first, 9)
            both.grow(-1, 9)
            if second:
                both.end(-1)
        elif verb == "begin":
            both.begin(first, second)
        elif verb == "reset":
            both.reset()
        elif both.holds:
            index = first % len(both.holds)
            if verb == "grow":
                both.grow(index, second)
            elif verb == "spare":
                both.allocate(index, second)
            else:
                both.end(index)
        both.check()


def fill(tree: RunTree, chain: bytes) -> None:
    blocks = len(chain) // HASH_BYTES
    hold = tree.pin(chain, tree.match(chain, blocks).blocks)
    assert tree.allocate(hold, blocks - hold.cached_blocks)
    tree.insert(hold, chain, blocks)
    tree.unpin(hold)


def test_evicts_the_tail_of_the_oldest_request_first():
    tree = RunTree(8)
    old, new = chain_of(1, 1, 1, 1), chain_of(2, 2, 2, 2)
    fill(tree, old)
    fill(tree, new)
    fill(tree, chain_of(3, 3))
    assert tree.match(old, 4).blocks == 2
    assert tree.match(new, 4).blocks == 4


def test_touching_a_prefix_saves_it_from_eviction():
    tree = RunTree(8)
    old, new = chain_of(1, 1, 1, 1), chain_of(2, 2, 2, 2)
    fill(tree, old)
    fill(tree, new)
    tree.unpin(tree.pin(old, 4))
    fill(tree, chain_of(3, 3))
    assert tree.match(old, 4).blocks == 4
    assert tree.match(new, 4).blocks == 2


def test_siblings_outlive_each_other():
    tree = RunTree(10)
    fill(tree, chain_of(0, 0))
    fill(tree, chain_of(0, 1))
    assert tree.contents() == {*keys_of(chain_of(0, 0)), *keys_of(chain_of(0, 1))}


def test_growing_past_a_finished_branch_keeps_the_branch():
    tree = RunTree(10)
    mine, other = chain_of(0, 0, 0), chain_of(0, 0, 1)
    hold = tree.pin(mine, 0)
    assert tree.allocate(hold, 2)
    tree.insert(hold, mine, 2)
    fill(tree, other)
    assert tree.allocate(hold, 1)
    tree.insert(hold, mine, 3)
    tree.unpin(hold)
    assert tree.match(other, 3).blocks == 3
    assert tree.match(mine, 3).blocks == 3


def test_pinned_blocks_are_not_evicted():
    tree = RunTree(4)
    chain = chain_of(1, 1, 1)
    fill(tree, chain)
    hold = tree.pin(chain, 3)
    other = tree.pin(chain_of(2), 0)
    assert not tree.allocate(other, 2)
    assert tree.allocate(other, 1)
    assert tree.match(chain, 3).blocks == 3
    tree.unpin(hold)
    tree.unpin(other)
    assert tree.free_blocks == 4


def test_a_second_copy_of_a_block_is_private():
    tree = RunTree(6)
    chain = chain_of(1, 1)
    first, second = tree.pin(chain, 0), tree.pin(chain, 0)
    for hold in (first, second):
        assert tree.allocate(hold, 2)
        tree.insert(hold, chain, 2)
    assert (first.private, second.private) == (0, 2)
    assert tree.used_blocks == 4
    tree.unpin(first)
    assert tree.used_blocks == 4, "the second request holds the copy of the first"
    tree.unpin(second)
    assert tree.used_blocks == 0
    assert tree.match(chain, 2).blocks == 2


def test_reset_is_refused_while_blocks_are_in_use():
    tree = RunTree(4)
    fill(tree, chain_of(1, 2))
    hold = tree.pin(chain_of(1), 1)
    assert not tree.reset()
    tree.unpin(hold)
    assert tree.reset()
    assert tree.contents() == set()
    assert tree.free_blocks == 4


def test_pin_of_uncached_blocks_is_a_bug():
    with pytest.raises(AssertionError):
        RunTree(4).pin(chain_of(1, 2), 1)


def test_finished_turns_become_one_run():
    """A conversation of many turns must not become a deep tree: look-ups walk it."""
    tree = RunTree(1000)
    chain = chain_of(*range(200))
    for turn in range(1, 200):
        fill(tree, chain[: turn * HASH_BYTES])
    (run,) = tree._root.children.values()
    assert (run.start, run.end, run.children) == (0, 199, {})
    assert len(run.keys) == 199 * HASH_BYTES
